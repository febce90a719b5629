# SPDX-License-Identifier: Apache-2.0
"""What the abdominal CT phantom is made of: a patient's build, and one painting method for every tissue.

Coordinates are mm in the patient: x to the right, y forward, z upward, origin at the middle of the first lumbar
vertebra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from monai_ext.phantoms.solids import (
    Array,
    Box,
    Canvas,
    ellipsoid,
    smooth_maximum,
    smooth_minimum,
    spline_path,
)

__all__ = ["LABELS", "PHASES", "Anatomy", "Build"]

#: The publisher's code of the 13 organs.
LABELS = {
    "spleen": 1,
    "right kidney": 2,
    "left kidney": 3,
    "gallbladder": 4,
    "esophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior vena cava": 9,
    "portal and splenic vein": 10,
    "pancreas": 11,
    "right adrenal gland": 12,
    "left adrenal gland": 13,
}

#: How often each contrast phase occurs (the cohort's protocol is portal venous).
PHASES = {"native": 0.1, "arterial": 0.15, "portal": 0.6, "delayed": 0.15}

# mean HU in each phase, in the order of PHASES
ENHANCEMENT = {
    "aorta": (42, 270, 158, 112),
    "vein": (40, 90, 140, 110),
    "portal": (42, 150, 166, 112),
    "liver": (57, 78, 106, 92),
    "spleen": (48, 118, 114, 96),
    "cortex": (34, 190, 180, 150),
    "medulla": (30, 95, 160, 150),
    "pancreas": (38, 110, 97, 78),
    "adrenal": (30, 75, 70, 62),
    "bowel": (40, 98, 108, 92),
    "muscle": (55, 60, 66, 64),
}
AIR, GAS, LUNG, FAT, DISC, MARROW, CORTICAL = -1000.0, -900.0, -850.0, -102.0, 85.0, 175.0, 520.0
VERTEBRA = 34.0  # height of a vertebra and its disc


@dataclass(frozen=True)
class Build:
    """What a patient is like before any organ is drawn.

    Args:
        scale: size relative to the coordinates of the organs, along x, y and z.
        fat: thickness of the fat under the skin in mm.
        wall: thickness of the muscles below it in mm.
        exponent: 2 makes the trunk an ellipse, more makes it squarer.
        phase: a key of ``PHASES``.
        cavity: half width and half depth of what the muscles enclose, in mm.
        centre: of the trunk, in x and y.
    """

    scale: NDArray[np.float64]
    fat: float
    wall: float
    exponent: float
    phase: str
    cavity: tuple[float, float] = (134.0, 93.0)
    centre: tuple[float, float] = (0.0, 26.0)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Build:
        return cls(
            scale=rng.normal(1, 0.035, 3).clip(0.93, 1.08),
            fat=float(rng.uniform(8, 30)),
            wall=float(rng.uniform(9, 13)),
            exponent=float(rng.uniform(2.25, 2.6)),
            phase=str(rng.choice(list(PHASES), p=list(PHASES.values()))),
        )

    @property
    def half_size(self) -> tuple[float, float]:
        """Of the trunk with its skin, in x and y."""
        return self.cavity[0] + self.wall + self.fat, self.cavity[1] + self.wall + self.fat

    def on_wall(self, angle: ArrayLike, depth: float) -> NDArray[np.float64]:
        """x and y of points ``depth`` mm below the skin; the angle runs from the patient's right to the front."""
        a, b = self.half_size
        c, s = np.cos(angle), np.sin(angle)
        radius = (np.abs(c / a) ** self.exponent + np.abs(s / b) ** self.exponent) ** (-1 / self.exponent) - depth
        return np.stack([self.centre[0] + radius * c, self.centre[1] + radius * s], axis=-1)


class Anatomy:
    """Draws the organs of one patient and paints them, from the skin inwards.

    Args:
        rng: source of everything that differs between patients.
        canvas: where to paint.
        build: the patient.
        coarse: random field of unit variance that varies over about 12 mm, for shapes and contents.
        fine: the same over about 4 mm, for texture.
    """

    def __init__(self, rng: np.random.Generator, canvas: Canvas, build: Build, coarse: Array, fine: Array) -> None:
        self.rng, self.canvas, self.build = rng, canvas, build
        self.coarse, self.fine = coarse, fine
        column = list(PHASES).index(build.phase)
        self.hu = {tissue: hu[column] * float(rng.normal(1, 0.06)) for tissue, hu in ENHANCEMENT.items()}
        self.full: Box = (slice(None),) * 3
        self.breath = float(rng.normal(0, 5))  # height of the diaphragm, and of what hangs on it
        self.cavity = self.dome = np.zeros(0, np.float32)  # distances, set by trunk() and chest()

    def paint(self) -> None:
        """Everything, in the order in which it covers each other."""
        self.trunk()
        self.chest()
        self.muscles()
        self.spine()
        self.ribs()
        self.mesentery()
        self.small_bowel()
        self.colon()
        self.duodenum()
        self.liver()
        self.spleen()
        self.stomach()
        self.kidneys()
        self.vena_cava()
        self.aorta()
        self.pancreas()
        self.portal_vein()
        self.gallbladder()
        self.adrenals()

    # tools -----------------------------------------------------------------------------------------------------------
    def near(self, point: ArrayLike, spread: float = 3.5) -> NDArray[np.float64]:
        """A point or path (last axis x, y, z) moved as one, as positions differ between patients."""
        return np.asarray(point, float) + self.rng.normal(0, spread, 3).clip(-2 * spread, 2 * spread)

    def size(self, radii: ArrayLike, spread: float = 0.07) -> NDArray[np.float64]:
        """Radii made larger or smaller, together and each for itself."""
        factor = self.rng.normal(1, spread) * self.rng.normal(1, spread / 2, np.shape(radii))
        return np.asarray(radii, float) * factor.clip(1 - 2 * spread, 1 + 2 * spread)

    def turn(self, degrees: ArrayLike = (0, 0, 0), spread: float = 5.0) -> Rotation:
        """Rotation about x, y and z, a little different in every patient."""
        angles = np.asarray(degrees, float) + self.rng.normal(0, spread, 3).clip(-2 * spread, 2 * spread)
        return Rotation.from_euler("xyz", angles, degrees=True)

    def tissue(self, box: Box, hu: float, texture: float = 4.0, patches: float = 3.0) -> Array:
        """A mean value with fine texture and slow changes, in HU."""
        return hu + texture * self.fine[box] + patches * self.coarse[box]

    def ellipsoid_box(self, centre: NDArray[np.float64], radii: NDArray[np.float64], room: float = 0.0) -> Box:
        """Voxel ranges of an ellipsoid however it is turned, and ``room`` mm around it."""
        reach = float(np.max(radii)) + room
        return self.canvas.box(centre - reach, centre + reach)

    def hollow(
        self,
        path: ArrayLike,
        radius: ArrayLike,
        content: str,
        wall: float = 3.0,
        label: int = 0,
        rough: float = 1.0,
    ) -> None:
        """A tube of gut: wall, and inside it fluid, contrast, stool or collapsed folds, with gas on top."""
        box, d = self.canvas.tube(path, radius, room=4.0)
        d = self.inside(box, d + rough * self.coarse[box])
        self.canvas.paint(box, d - 1.5, self.tissue(box, FAT, 8))
        self.canvas.paint(box, d, self.tissue(box, self.hu["bowel"] * 0.85), label)
        y = self.canvas.at(box)[1]
        path = np.asarray(path, float)
        if content == "folds":
            inside = self.tissue(box, self.hu["bowel"] * 0.9, 12, 12)
            gas_share = 0.05
        elif content == "fluid":
            inside = self.tissue(box, float(self.rng.uniform(8, 30)), 4, 6)
            gas_share = float(self.rng.uniform(0, 0.5))
        elif content == "contrast":
            inside = self.tissue(box, float(self.rng.uniform(130, 260)), 8, 25)
            gas_share = float(self.rng.uniform(0, 0.4))
        else:  # stool
            mixed = 0.7 * self.fine[box] + 0.7 * self.coarse[box]
            inside = np.where(mixed > 0.75, -650.0, 35.0 + 30 * self.fine[box]).astype(np.float32)
            gas_share = float(self.rng.uniform(0, 0.35))
        radii = np.broadcast_to(np.asarray(radius, dtype=float), len(path))
        level = np.max(path[:, 1] + radii) - 2 * np.mean(radii) * gas_share
        inside = np.where(y > level, GAS, inside).astype(np.float32)
        self.canvas.paint(box, d + wall, inside)

    # the frame -------------------------------------------------------------------------------------------------------
    def trunk(self) -> None:
        """Skin, subcutaneous fat, muscle wall, and a cavity filled with fat."""
        self.table()
        x = self.canvas.points[0] - np.float32(self.build.centre[0])
        y = self.canvas.points[1] - np.float32(self.build.centre[1])
        a, b = self.build.half_size
        n = np.float32(self.build.exponent)
        relative = ((np.abs(x) / np.float32(a)) ** n + (np.abs(y) / np.float32(b)) ** n) ** (1 / n)
        # distance along the ray from the centre of the trunk, and flatter towards the table
        skin = np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(relative, 1e-3))
        skin = np.maximum(skin, -(y + np.float32(b - 5)))
        groove = 6 * np.exp(-((x / 14) ** 2)) * (y < 0)
        skin += groove
        fat = self.build.fat * (0.8 + 0.3 * np.abs(x) / np.float32(a)) + 1.5 * self.coarse
        # thick straight muscles in front, a seam beside them, three flat ones at the flank
        wall = self.build.wall * (0.85 + 0.3 * np.abs(x) / np.float32(a))
        wall -= 0.6 * self.build.wall * np.exp(-(((np.abs(x) - 64) / 6) ** 2)) * (y > 0)
        self.cavity = skin + fat + wall
        box = self.full
        self.canvas.paint(box, skin, 30.0)
        self.canvas.paint(box, skin + 2.8, self.tissue(box, FAT, 5))
        self.canvas.paint(box, skin + fat, self.tissue(box, self.hu["muscle"], 10, 6))
        # fat between the flat muscles of the flank, and between the straight ones in front
        sheet = np.abs(skin + fat + np.float32(self.build.wall * 0.45)) - 0.6
        self.canvas.paint(box, np.maximum(sheet, 45 - np.abs(x)), FAT * 0.6)
        middle = np.maximum(np.abs(x) - 2.5, np.float32(60) - y)
        self.canvas.paint(box, np.maximum(middle, skin + 4), FAT * 0.7)
        self.canvas.paint(box, self.cavity, self.tissue(box, FAT, 9, 3))

    def table(self) -> None:
        """The curved couch under the patient's back: a hard shell around foam."""
        x, y, _ = self.canvas.points
        hollow = self.build.centre[1] - self.build.half_size[1] + 2 + x * x / 1100
        shell = np.abs(y - hollow + 16) - 12
        for distance, hu in ((shell, 0.0), (shell + 4.5, -880.0)):
            self.canvas.paint(self.full, np.maximum(distance, np.abs(x) - 215), hu)

    def chest(self) -> None:
        """Diaphragm, lungs above it, and the heart on it."""
        breath = self.breath
        p = self.canvas.points

        def dome(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> Array:
            # an ellipsoid above z, a cylinder below
            q = np.stack([(p[0] - x) / rx, (p[1] - y) / ry, np.maximum(p[2] - z, 0) / rz])
            value = np.sqrt(np.einsum("i...,i...->...", q, q))
            q /= np.array([rx, ry, rz], np.float32).reshape(3, 1, 1, 1)
            return value * (value - 1) / np.maximum(np.sqrt(np.einsum("i...,i...->...", q, q)), 1e-4)

        right = dome(66, 20, 22 + breath, 78, 96, 86)
        left = dome(-68, 18, 18 + breath, 76, 94, 78)
        self.dome = smooth_minimum(smooth_minimum(right, left, 20), dome(0, 30, 20 + breath, 60, 95, 66), 20)
        floor = (18 + 0.55 * (p[1] + 50) - p[2]) * np.float32(0.87)
        middle = np.sqrt((p[0] / 30) ** 2 + ((p[1] - 22) / 44) ** 2) - 1  # spine, vessels, esophagus
        lungs = np.maximum(np.maximum(self.cavity + 2, 3.5 - self.dome), np.maximum(floor, -middle * 30))
        box = self.canvas.box((-200, -120, 0), (200, 160, 260))
        muscle = np.maximum(np.maximum(np.abs(self.dome[box] - 1.5) - 2, self.cavity[box] + 1), floor[box] - 8)
        self.canvas.paint(box, muscle, self.tissue(box, self.hu["muscle"]))
        vessels = 600 * np.clip(self.fine[box] - 1.6, 0, 1)
        self.canvas.paint(box, lungs[box], LUNG + 30 * self.coarse[box] + vessels)
        centre, radii = self.near((-14, 62, 128 + self.breath)), self.size((62, 44, 40))
        box = self.ellipsoid_box(centre, radii, 8)
        d = np.maximum(ellipsoid(self.canvas.at(box), centre, radii, self.turn((0, 10, 20))), 3 - self.dome[box])
        self.canvas.paint(box, d - 6, self.tissue(box, FAT, 8))
        self.canvas.paint(box, d, self.tissue(box, self.hu["muscle"] + 0.4 * (self.hu["aorta"] - 40), 6, 8))
        self.canvas.paint(box, d + 11, self.tissue(box, self.hu["vein"], 4))

    def bend(self, z: ArrayLike) -> NDArray[np.float64]:
        """How far forward the spine lies at a height: hollow at the loin, round at the chest."""
        return 6 * np.sin((np.asarray(z, float) + 15) / -70)

    def muscles(self) -> None:
        """Psoas, quadratus lumborum, the long muscles of the back, and the pillars of the diaphragm."""
        bulk = float(self.rng.normal(1, 0.1))
        hu = self.hu["muscle"]
        for side in (1, -1):
            box = self.canvas.box((side * 38 - 46, -100, -260), (side * 38 + 46, -10, 260))
            x, y, z = self.canvas.at(box)
            thin = 1 - 0.3 * np.clip((z - 20) / 110, 0, 1)
            d = np.sqrt(((x - side * 36) / (37 * bulk * thin)) ** 2 + ((y + 54) / (28 * bulk * thin)) ** 2) - 1
            d = np.maximum(25 * d, self.cavity[box] - self.build.wall) + self.coarse[box]
            self.canvas.paint(box, d, self.tissue(box, hu - 4, 14, 8))
            # fat between its strands
            strands = np.maximum(d + 4, 1.9 - np.abs(self.coarse[box] + 0.3 * self.fine[box]))
            self.canvas.paint(box, strands, -40.0)
            path = self.near(
                [[side * 52, -18, 32], [side * 62, -24, -10], [side * 72, -28, -70], [side * 74, -28, -130]], 2
            )
            for shift in (-9, 0, 9):
                box, d = self.canvas.tube(np.add(path, [shift, 0, 0]), 8.5 * bulk, 2)
                self.canvas.paint(box, d, self.tissue(box, hu, 9, 6))
            path = self.near(
                [
                    [side * 24, 2, 20],
                    [side * 30, 2, -10],
                    [side * 37, 6, -60],
                    [side * 44, 14, -120],
                    [side * 54, 26, -190],
                ],
                2,
            )
            path = spline_path(path, 12)
            box, d = self.canvas.tube(path, np.interp(path[:, 2], [-150, -70, -10, 30], [25, 21, 13, 5]) * bulk, 2)
            self.canvas.paint(box, d + self.coarse[box], self.tissue(box, hu, 9, 6))
            pillar = [
                [side * 12 - 9, 30, -20],
                [side * 15 - 10, 32, 20],
                [side * 17 - 11, 34, 60],
                [side * 24 - 8, 40, 84],
            ]
            box, d = self.canvas.tube(self.near(pillar, 1), [4, 6, 5.5, 3.5], 2)
            self.canvas.paint(box, d, self.tissue(box, hu))

    def spine(self) -> None:
        """Vertebral bodies and discs, the canal, arches, spinous and transverse processes."""
        box = self.canvas.box((-56, -85, -260), (56, 40, 260))
        x, y, z = self.canvas.at(box)
        y = y - self.bend(z).astype(np.float32)
        level = np.mod(z + np.float32(VERTEBRA / 2), np.float32(VERTEBRA)) - np.float32(VERTEBRA / 2)
        waist = 1 - 0.09 * np.clip(1 - (level / 13) ** 2, 0, 1)
        body = (np.sqrt((x / (24 * waist)) ** 2 + (y / (18.5 * waist)) ** 2) - 1) * 20
        body = smooth_maximum(body, -(y + 15), 4)
        canal = np.sqrt((x / 1.25) ** 2 + (y + 25) ** 2) - 9
        bone = smooth_maximum(body, np.abs(level) - 13.5, 3)
        arch = np.maximum(np.maximum(np.abs(canal - 3) - 3, y + 14), np.abs(level - 2) - 12)
        facet = np.sqrt((np.abs(x) - 17) ** 2 + (y + 33) ** 2) - 7.5 + 0.1 * np.abs(level)
        spinous = np.maximum(np.maximum(np.abs(x) - 3.6, np.abs(y + 52) - 16), np.abs(level + 4 + 0.25 * (y + 52)) - 10)
        transverse = np.sqrt((y + 24 + 0.12 * (np.abs(x) - 14)) ** 2 + (level - 3) ** 2) - 5
        transverse = np.maximum(transverse, np.abs(np.abs(x) - 27) - 14)
        bones = np.minimum(np.minimum(bone, arch), np.minimum(np.minimum(facet, spinous), transverse))
        self.canvas.paint(box, body, self.tissue(box, DISC, 6))
        density = self.rng.normal(1, 0.12)
        self.canvas.paint(box, bones, self.tissue(box, CORTICAL * density, 40, 30))
        self.canvas.paint(
            box, np.where(bones < bone - 0.1, bones + 3, bones + 1.8), self.tissue(box, MARROW * density, 28, 15)
        )
        self.canvas.paint(box, canal, self.tissue(box, 18, 4))
        self.canvas.paint(box, canal + 3.5, self.tissue(box, 38, 4))

    def ribs(self) -> None:
        """Ribs 7 to 12 in the wall of the chest, with cartilage at their ends."""
        depth = self.build.fat + 6
        for number in range(7, 13):
            head = (12.6 - number) * VERTEBRA + float(self.rng.normal(0, 1.5))
            length = {12: 0.42, 11: 0.62}.get(number, 1.0)
            share = np.linspace(0.02, length, int(22 * length) + 3)
            for side in (1, -1):
                xy = self.build.on_wall(np.deg2rad(-80 + 138 * share), depth)
                drop = 78 * np.sin(np.pi / 2 * np.clip(share / 0.75, 0, 1)) - 22 * np.clip((share - 0.8) / 0.2, 0, 1)
                path = np.stack([side * xy[:, 0], xy[:, 1], head - drop], -1)
                path[0] = (side * 22, -26, head)
                bony = share < 0.83
                for part, value, core in ((bony, CORTICAL * 0.95, MARROW * 0.7), (~bony, 110.0, 95.0)):
                    if part.sum() > 1:
                        box, d = self.canvas.tube(path[part], 5.0, 1)
                        self.canvas.paint(box, d, self.tissue(box, value, 30))
                        self.canvas.paint(box, d + 2.0, self.tissue(box, core, 25))

    # gut -------------------------------------------------------------------------------------------------------------
    def mesentery(self) -> None:
        """Small vessels in the fat between the loops of bowel."""
        rng = self.rng
        for _ in range(14):
            start = rng.uniform((-20, 45, -40), (25, 60, 10))
            end = rng.uniform((-90, 50, -140), (90, 105, -15))
            path = spline_path(np.stack([start, (start + end) / 2 + rng.normal(0, 8, 3), end]), 6)
            box, d = self.canvas.tube(path, np.linspace(3.2, 1.6, 6))
            self.canvas.paint(box, d, 0.5 * (self.hu["vein"] + self.hu["aorta"]) * 0.8)

    def small_bowel(self) -> None:
        """Loops that wander through the front of the abdomen."""
        rng = self.rng
        contents = ["folds", "fluid", rng.choice(["contrast", "fluid", "folds"])]
        low, high = np.array([-85, 38, -175]), np.array([85, 98, -22])
        for loop in range(14):
            at = rng.uniform(low, high)
            nodes = [at]
            for _ in range(6):
                step = rng.normal(0, 1, 3)
                step *= 34 / np.linalg.norm(step)
                ahead = at + step
                at = np.where((ahead < low) | (ahead > high), at - step, ahead).clip(low, high)  # turn back at the wall
                nodes.append(at)
            path = spline_path(nodes, 20)
            self.hollow(path, rng.uniform(10, 14) + rng.uniform(-1.5, 1.5, 20), contents[loop % 3], 3)

    def colon(self) -> None:
        """Ascending, transverse and descending colon, with pouches."""
        rng = self.rng
        filling = "contrast" if rng.random() < 0.25 else "stool"
        flexure = self.near((90, 50, -22))
        spleen_side = self.near((-92, 46, 12))
        routes = [
            [self.near((94, 24, -190)), self.near((98, 22, -110)), self.near((100, 24, -60)), flexure],
            [flexure, self.near((60, 88, -48)), self.near((0, 98, -52)), self.near((-54, 88, -30)), spleen_side],
            [spleen_side, self.near((-108, 16, -30)), self.near((-108, 6, -100)), self.near((-98, 14, -190))],
        ]
        for nodes, radius in zip(routes, (23, 19, 15.5)):
            path = spline_path(nodes, 26)
            pouches = 1 + 0.13 * np.sin(np.arange(26) * 2.1)
            self.hollow(path, self.size(radius) * pouches, filling if radius > 16 else "stool", 2.5)

    def duodenum(self) -> None:
        """Around the head of the pancreas."""
        path = self.near([[36, 74, 8], [54, 60, 2], [58, 44, -30], [46, 40, -58], [8, 46, -60], [-24, 56, -48]], 3)
        self.hollow(spline_path(path, 14), self.size(12), str(self.rng.choice(["fluid", "folds"])), 3)

    def stomach(self) -> None:
        """Esophagus, then the stomach: thick wall, folds, and contents with a gas level."""
        rng = self.rng
        stomach = self.near(
            [[-50, 14, 76], [-60, 32, 60], [-60, 57, 40], [-42, 80, 18], [-14, 94, 2], [12, 89, 0], [32, 79, 6]]
        )
        gullet = np.concatenate(
            [self.near([[-4, 34, 190], [-6, 35, 130], [-16, 38, 100]], 2), np.add(stomach[:1], [18, 20, -2])]
        )
        gullet = spline_path(gullet, 10)
        box, d = self.canvas.tube(gullet, 9.0 * rng.normal(1, 0.06), 3)
        d = d + 0.5 * self.coarse[box]
        self.canvas.paint(box, d - 2, self.tissue(box, FAT, 8), 0)
        self.canvas.paint(box, d, self.tissue(box, self.hu["bowel"] * 0.75, 5), LABELS["esophagus"])
        lumen = GAS if rng.random() < 0.5 else 20.0
        self.canvas.paint(box, d + 6.5, lumen)
        full = spline_path(np.column_stack([stomach, self.size([29, 32, 29, 25, 21, 17, 11.5], 0.06)]), 22)
        content = str(rng.choice(["fluid", "fluid", "contrast", "stool", "folds"]))
        self.hollow(full[:, :3], full[:, 3], content, float(rng.uniform(4, 6)), LABELS["stomach"], 1.5)

    # solid organs ----------------------------------------------------------------------------------------------------
    def inside(self, box: Box, d: Array) -> Array:
        """What of a solid lies in the cavity and below the diaphragm."""
        return smooth_maximum(smooth_maximum(d, self.cavity[box] + 1.5, 4), self.dome[box] + 1.5, 4)

    def liver(self) -> None:
        """Right and left lobe under the diaphragm, cut off along a slope below; hepatic and portal veins."""
        lift = np.array([0, 0, 0.7 * self.breath])
        right, left = self.near((70, 20, 46)) + lift, self.near((14, 74, 62)) + lift
        box = self.canvas.box((-110, -100, -90), (160, 130, 140))
        p = self.canvas.at(box)
        d = ellipsoid(p, right, self.size((76, 92, 92), 0.05), self.turn())
        point, normal = self.near((48, 34, 8)), np.array([-0.70, 0.20, -0.68])
        below = sum((p[i] - np.float32(point[i])) * np.float32(normal[i]) for i in range(3))
        d = smooth_maximum(d, below, 22)
        spine = (np.sqrt((p[0] / 32) ** 2 + ((p[1] + 12) / 46) ** 2) - 1) * 32
        d = smooth_maximum(d, -spine, 8)
        # the kidney and its fat lie in a hollow of the liver
        d = smooth_maximum(d, -ellipsoid(p, self.near((50, -26, -10), 2), (46, 60, 62)), 18)
        d = smooth_minimum(d, ellipsoid(p, left, self.size((76, 36, 36), 0.1), self.turn((0, 12, 0))), 24)
        d = self.inside(box, d + 1.2 * self.coarse[box])
        fatty = float(self.rng.choice([1.0, 1.0, 0.8]))
        self.canvas.paint(box, d, self.tissue(box, self.hu["liver"] * fatty, 5, 6), LABELS["liver"])
        inner = d + 4
        # hepatic veins run to the vena cava under the dome, portal branches spread from the hilum
        root, hilum = self.near((22, 46, 96), 2), self.near((46, 52, 44), 2)
        trees = [
            (root, [(70, 10, 70), (110, -10, 40)], "vein", 5.0),
            (root, [(58, 55, 76), (80, 85, 48)], "vein", 5.0),
            (root, [(0, 75, 84), (-25, 85, 66)], "vein", 4.0),
            (hilum, [(80, 30, 48), (112, 15, 62)], "portal", 5.5),
            (hilum, [(78, 35, 42), (105, 20, 10)], "portal", 5.0),
            (hilum, [(75, 60, 52), (100, 70, 40)], "portal", 4.5),
            (hilum, [(25, 68, 58), (0, 80, 64)], "portal", 5.0),
        ]
        for start, nodes, blood, radius in trees:
            path = spline_path([start, *[self.near(n, 5) for n in nodes]], 8)
            part, tube = self.canvas.tube(path, np.linspace(radius, 1.5, 8))
            tube = np.maximum(tube, part_of(inner, box, part))
            self.canvas.paint(part, tube, self.hu[blood])

    def spleen(self) -> None:
        """Hollow towards the stomach; patchy in the arterial phase, as its pulp fills unevenly."""
        centre, radii = self.near((-100, -10, 52 + 0.6 * self.breath)), self.size((38, 54, 52), 0.08)
        box = self.ellipsoid_box(centre, radii)
        p = self.canvas.at(box)
        d = ellipsoid(p, centre, radii, self.turn((0, 0, 12)))
        hilum = ellipsoid(p, np.add(centre, [48, 22, -4]), self.size((40, 46, 60)))
        d = self.inside(box, smooth_maximum(d, -hilum, 10) + self.coarse[box])
        patchy = 22.0 if self.build.phase == "arterial" else 3.0
        self.canvas.paint(box, d, self.tissue(box, self.hu["spleen"], 4, patchy), LABELS["spleen"])

    def kidneys(self) -> None:
        """Cortex, pyramids, and a sinus of fat and urine that opens inwards and forwards."""
        for side, organ in ((1, "right kidney"), (-1, "left kidney")):
            centre = self.near((side * 65, -4, -12 if side > 0 else -4))
            radii = self.size((28, 28, 54), 0.06)
            box = self.ellipsoid_box(centre, radii, 12)
            p = self.canvas.at(box)
            turn = self.turn((13, -side * 10, -side * 20))  # the upper poles lie further back and closer together
            d = ellipsoid(p, centre, radii, turn) + 0.8 * self.coarse[box]
            sinus_centre = centre + turn.apply([-side * 24.0, 8, 0])
            sinus = ellipsoid(p, sinus_centre, self.size((22, 12, 22)), turn) + 1.5 * self.coarse[box]
            d = smooth_maximum(d, -sinus, 5)
            self.canvas.paint(box, d - 4, self.tissue(box, FAT, 8), 0)
            self.canvas.paint(box, d, self.tissue(box, self.hu["cortex"], 6), LABELS[organ])
            pyramids = np.maximum(d + 7, -0.6 - 4 * self.coarse[box] - 1.5 * self.fine[box])
            self.canvas.paint(box, pyramids, self.tissue(box, self.hu["medulla"], 6))
            self.canvas.paint(box, sinus, self.tissue(box, FAT * 0.8, 12), 0)
            pelvis = ellipsoid(p, sinus_centre, self.size((12, 6, 12), 0.15), turn)
            urine = 300.0 if self.build.phase == "delayed" and self.rng.random() < 0.6 else 8.0
            self.canvas.paint(box, pelvis, self.tissue(box, urine, 4), 0)
            hilum = sinus_centre + turn.apply([-side * 6.0, 4, 0])
            for target, blood, radius in (((side * 12, 38, 2), "vein", 5.0), ((side * 4, 30, 4), "aorta", 3.2)):
                middle = (hilum + target) / 2 + [0, 5 if blood == "vein" else 0, 2]
                part, tube = self.canvas.tube(spline_path([hilum, middle, target], 7), radius)
                self.canvas.paint(part, tube, self.hu[blood], 0)

    def pancreas(self) -> None:
        """From the head beside the duodenum to the tail at the spleen, lobed, with a thin duct."""
        nodes = np.array([[34, 58, -24], [26, 62, -8], [8, 65, 6], [-18, 59, 16], [-42, 42, 26], [-67, 26, 35]])
        nodes = self.near(nodes) + self.rng.normal(0, 2.0, nodes.shape)
        full = spline_path(np.column_stack([nodes, self.size([15.5, 15.5, 12, 12.5, 13, 11.5], 0.06)]), 20)
        box, d = self.canvas.tube(full[:, :3], full[:, 3], 4)
        d = d + 1.3 * self.coarse[box] + 0.6 * self.fine[box]
        self.canvas.paint(box, d - 2, self.tissue(box, FAT, 8), 0)
        self.canvas.paint(box, d, self.tissue(box, self.hu["pancreas"], 12, 5), LABELS["pancreas"])
        duct, tube = self.canvas.tube(full[2:, :3], 1.5)
        self.canvas.paint(duct, tube, 40.0)

    def gallbladder(self) -> None:
        """A pear under the liver, now and then with a stone."""
        nodes = self.near([[42, 66, 22], [48, 80, 8], [54, 92, -8], [57, 98, -20]])
        full = spline_path(np.column_stack([nodes, self.size([6, 13, 17, 15], 0.06)]), 12)
        box, d = self.canvas.tube(full[:, :3], full[:, 3], 3)
        d = self.inside(box, d)
        self.canvas.paint(box, d, self.tissue(box, self.hu["bowel"] * 0.6), LABELS["gallbladder"])
        self.canvas.paint(box, d + 2, self.tissue(box, float(self.rng.uniform(3, 20)), 3))
        if self.rng.random() < 0.15:
            stone = full[-2, :3] + [0, -6, 0]
            part = self.ellipsoid_box(stone, np.full(3, 6.0))
            self.canvas.paint(part, ellipsoid(self.canvas.at(part), stone, (6, 5, 5)), 190.0)

    def adrenals(self) -> None:
        """Two limbs each, above the kidneys."""
        glands = {
            "right adrenal gland": [
                [(29, 24, 56), (32, 14, 48), (37, 3, 42)],
                [(29, 22, 54), (27, 12, 48), (26, 3, 44)],
            ],
            "left adrenal gland": [
                [(-30, 28, 50), (-35, 16, 45), (-41, 6, 40)],
                [(-30, 28, 50), (-28, 16, 45), (-25, 8, 40)],
            ],
        }
        for organ, limbs in glands.items():
            paths = self.near(limbs, 2)
            for path in paths:
                box, d = self.canvas.tube(path, 6.0)
                self.canvas.paint(box, d, self.tissue(box, FAT, 8), 0)
            for path in paths:
                for lift in (-5, 0, 5):
                    box, d = self.canvas.tube(np.add(path, [0, 0, lift]), 3.4)
                    self.canvas.paint(box, d, self.tissue(box, self.hu["adrenal"], 5), LABELS[organ])

    # vessels ---------------------------------------------------------------------------------------------------------
    def vena_cava(self) -> None:
        """On the right of the aorta, then through the back of the liver to the heart."""
        nodes = self.near(
            [[24, 38, -200], [22, 36, -110], [21, 37, -50], [22, 40, 0], [25, 46, 45], [22, 50, 85], [10, 58, 120]], 2
        )
        full = spline_path(np.column_stack([nodes, self.size([9, 11, 11.5, 11.5, 12.5, 13, 13], 0.07)]), 20)
        box, d = self.canvas.tube(full[:, :3], full[:, 3], 2)
        self.canvas.paint(box, d - 1.2, self.tissue(box, FAT * 0.5, 8), None)
        self.canvas.paint(
            box, d + 0.5 * self.coarse[box], self.tissue(box, self.hu["vein"], 3, 8), LABELS["inferior vena cava"]
        )

    def aorta(self) -> None:
        """Down to its fork; the iliac and the superior mesenteric artery unlabelled."""
        nodes = self.near(
            [[-20, 30, 200], [-18, 31, 100], [-14, 33, 40], [-11, 35, 0], [-7, 36, -50], [-3, 36, -108]], 2
        )
        nodes[:, 1] += self.bend(nodes[:, 2])
        full = spline_path(np.column_stack([nodes, self.size([13, 12.5, 12, 11.5, 10.5, 10], 0.06)]), 20)
        fork = full[-1, :3]
        for x in (26, -30):
            box, d = self.canvas.tube([fork, np.add(fork, [x * 0.5, -2, -22]), np.add(fork, [x, -8, -55])], [8, 7, 6])
            self.canvas.paint(box, d, self.tissue(box, self.hu["aorta"], 3), 0)
        branch = full[11, :3]
        trunk = spline_path(
            [branch, np.add(branch, [2, 18, 2]), np.add(branch, [4, 24, -30]), np.add(branch, [6, 30, -90])], 9
        )
        box, d = self.canvas.tube(trunk, np.linspace(4.5, 2.5, 9))
        self.canvas.paint(box, d - 4, self.tissue(box, FAT, 8), 0)
        self.canvas.paint(box, d, self.hu["aorta"], 0)
        box, d = self.canvas.tube(full[:, :3], full[:, 3], 3)
        self.canvas.paint(box, d - 1.5, self.tissue(box, FAT * 0.7, 8), None)
        self.canvas.paint(box, d, self.tissue(box, self.hu["aorta"], 3), LABELS["aorta"])
        if self.rng.random() < 0.4:  # calcified wall
            spots = np.maximum(np.abs(d + 1.5) - 1.5, 1.3 - self.coarse[box])
            self.canvas.paint(box, spots, 420.0)

    def portal_vein(self) -> None:
        """Splenic vein, portal vein, and the superior mesenteric vein unlabelled."""
        meet = self.near((12, 54, 6), 2)
        splenic = spline_path(
            [self.near((-76, 16, 38), 2), self.near((-42, 30, 24), 2), self.near((-10, 47, 10), 2), meet], 10
        )
        portal = spline_path([meet, self.near((28, 54, 26), 2), self.near((50, 50, 45), 2)], 7)
        mesenteric = spline_path([meet, np.add(meet, [3, 8, -34]), np.add(meet, [0, 16, -90])], 8)
        box, d = self.canvas.tube(mesenteric, 5.5)
        self.canvas.paint(box, d, self.hu["portal"], 0)
        for path, radius in ((splenic, 4.8), (portal, 7.5)):
            box, d = self.canvas.tube(path, self.size(radius))
            self.canvas.paint(box, d - 1, FAT * 0.4, None)
            self.canvas.paint(box, d, self.tissue(box, self.hu["portal"], 3), LABELS["portal and splenic vein"])


def part_of(values: Array, box: Box, part: Box) -> Array:
    """Values known in a box, for a part of the grid: far outside where the box does not reach."""
    out = np.full([s.stop - s.start for s in part], 1e3, dtype=np.float32)
    common = [(max(b.start, p.start), min(b.stop, p.stop)) for b, p in zip(box, part)]
    if all(lo < hi for lo, hi in common):
        to = tuple(slice(lo - p.start, hi - p.start) for (lo, hi), p in zip(common, part))
        out[to] = values[tuple(slice(lo - b.start, hi - b.start) for (lo, hi), b in zip(common, box))]
    return out
