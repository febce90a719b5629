# SPDX-License-Identifier: Apache-2.0
"""What the cardiac MR phantom is made of: a heart at two moments, and the chest around it.

Coordinates are mm in the short-axis view: x to the patient's left (to the right of a picture as it is shown), y
forward, z from the apex of the left ventricle, at 0, along its axis to the base. Brightness is relative to blood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from monai_ext.phantoms.solids import Array, Box, Canvas, ellipsoid, smooth_maximum, smooth_minimum, spline_path

__all__ = ["GROUPS", "LABELS", "Chest", "Heart", "paint_heart"]

#: The publisher's codes.
LABELS = {"right ventricle": 1, "myocardium": 2, "left ventricle": 3}

#: The publisher's diagnoses, in the order of its ids: dilated and hypertrophic cardiomyopathy, infarction, no disease,
#: abnormal right ventricle.
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")

# radius of the left cavity at end-diastole and end-systole, thickness of its wall, extra thickness of the septum (a
# share of the wall), size of the right ventricle at both moments
SHAPES = {
    "DCM": (32.0, 28.0, 7.5, 0.0, 1.05, 0.92),
    "HCM": (22.0, 13.0, 13.0, 0.35, 0.95, 0.75),
    "MINF": (28.0, 23.5, 9.0, 0.05, 1.0, 0.82),
    "NOR": (25.0, 16.5, 9.0, 0.1, 1.0, 0.78),
    "RV": (23.0, 15.5, 8.5, 0.1, 1.28, 1.1),
}
AIR, LUNG, CORTICAL, MARROW, MUSCLE = 0.02, 0.08, 0.15, 0.6, 0.32


@dataclass(frozen=True)
class Heart:
    """The shape of the ventricles at one moment.

    Args:
        base: height of the valves above the apex, in mm.
        radius: of the left cavity where it is widest.
        wall: thickness of the myocardium there.
        septum: extra thickness of the septum, a share of the wall.
        right: size of the right ventricle, 1 for a usual one.
        scar: direction of a thin part of the wall, in radians; None for none.
        oval: how far the left cavity is from a circle, and in which direction.
        right_base: height of the right ventricle's valves above the left one's, in mm.
        lean: shift of the left ventricle in x and y per mm of height.
    """

    base: float
    radius: float
    wall: float
    septum: float
    right: float
    scar: float | None
    oval: tuple[float, float]
    right_base: float
    lean: tuple[float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, group: str) -> dict[str, Heart]:
        """A patient's heart at end-diastole (``ED``) and end-systole (``ES``)."""
        wide, narrow, wall, septum, right, right_narrow = SHAPES[group]
        size = _about_one(rng, 0.06)
        diastole = cls(
            base=88 * size * _about_one(rng, 0.05),
            radius=wide * size,
            wall=wall * size * _about_one(rng, 0.08),
            septum=septum,
            right=right * _about_one(rng, 0.06),
            scar=float(rng.uniform(-1.2, 2.2)) if group == "MINF" else None,
            oval=(float(rng.uniform(0, 0.1)), float(rng.uniform(0, np.pi))),
            right_base=float(rng.uniform(-7, 4)),
            lean=(float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05))),
        )
        squeeze = narrow / wide * _about_one(rng, 0.04)
        shortening = 1 - (1 - squeeze) * float(rng.uniform(0.3, 0.45))
        inner = diastole.radius * squeeze
        # the muscle keeps its volume: a narrower and shorter ring is thicker
        area = ((diastole.radius + diastole.wall) ** 2 - diastole.radius**2) / shortening
        systole = replace(
            diastole,
            base=diastole.base * shortening,
            radius=inner,
            wall=float(np.sqrt(inner**2 + area)) - inner,
            right=diastole.right * right_narrow / right,
        )
        return {"ED": diastole, "ES": systole}

    def ventricles(self, points: Array) -> tuple[Array, Array, Array]:
        """Distances to the right cavity, and to the outer and the inner surface of the left wall."""
        x, y, z = points
        # a slice shows a ventricle or not, as annotators have it: its height is the same all over
        level = z.mean((0, 1), keepdims=True)
        height = self.base - z
        x, y = x + np.float32(self.lean[0]) * height, y + np.float32(self.lean[1]) * height
        rho, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
        thick = 1 + np.float32(self.septum) * np.maximum(-np.cos(angle + 0.2), 0)
        bulge = np.ones_like(angle)
        if self.scar is not None:
            scar = np.exp(4 * (np.cos(angle - np.float32(self.scar)) - 1))
            thick -= 0.45 * scar
            bulge += 0.1 * scar
        apex = 0.8 * self.wall
        oval = 1 + self.oval[0] * np.cos(2 * angle + self.oval[1])
        outer = (self.radius * bulge * oval + self.wall * thick) * _profile(z / self.base)
        inner = self.radius * bulge * oval * _profile((z - apex) / (self.base - apex))
        epicardium, endocardium = (rho - outer).astype(np.float32), (rho - inner).astype(np.float32)
        # an ellipse behind the septum, cut out by the left ventricle: a crescent
        floor = 0.16 * self.base
        grow = np.maximum(_profile((z - floor) / (1.05 * self.base - floor)), 0.02)
        reach = self.radius + self.wall
        a = (0.45 * reach + 20 * self.right) * grow
        b = (0.55 * reach + 20 * self.right) * grow
        u, v = (x + (0.45 * reach + 9 * self.right) * grow) / a, (y - 2) / b
        # the outflow tract draws the front of the base forward and across
        u = u - 0.35 * np.clip(v, 0, 1.5) ** 2 * np.clip(z / self.base - 0.5, 0, 0.5)
        value = np.sqrt(u * u + v * v)
        crescent = value * (value - 1) / np.maximum(np.sqrt((u / a) ** 2 + (v / b) ** 2), 1e-3)
        crescent = np.maximum(crescent, np.float32(floor) - z)
        right = np.maximum(
            smooth_maximum(crescent, 0.8 - epicardium, 3), level - np.float32(self.base + self.right_base)
        )
        above = level - np.float32(self.base)
        return right, np.maximum(epicardium, above), np.maximum(endocardium, above)


def _about_one(rng: np.random.Generator, spread: float) -> float:
    return float(np.clip(rng.normal(1, spread), 1 - 2 * spread, 1 + 2 * spread))


def _through(at: ArrayLike, drift: ArrayLike = (0.0, 0.0)) -> list[list[float]]:
    """A straight path through every slice that starts at x and y ``at`` and moves by ``drift``."""
    return [[*np.asarray(at, float), -60.0], [*np.add(at, drift), 160.0]]


def _profile(height: Array) -> Array:
    """Radius of a ventricle from its apex (0) to its base (1), at most 1; below the apex a little under 0."""
    height = height.astype(np.float32)
    round_end = np.sqrt(np.maximum(1 - (1 - height / 0.7) ** 2, 0))
    upper = 1 - 0.1 * ((height - 0.7) / 0.3) ** 2
    return np.where(height < 0, -0.1, np.where(height < 0.7, round_end, np.maximum(upper, 0.5))).astype(np.float32)


class Chest:
    """Draws what surrounds the heart of one patient and does not move with it.

    Args:
        rng: source of everything that differs between patients.
        canvas: where to paint.
        coarse: random field of unit variance that varies over about 12 mm.
        fine: the same over about 4 mm.
    """

    def __init__(self, rng: np.random.Generator, canvas: Canvas, coarse: Array, fine: Array) -> None:
        self.rng, self.canvas, self.coarse, self.fine = rng, canvas, coarse, fine
        self.half = rng.normal(1, 0.05) * np.array([158.0, 118.0]) + rng.normal(0, 5, 2)
        self.centre = np.array([-38.0, -28.0]) + rng.normal(0, 5, 2)
        self.skin_fat, self.wall = float(rng.uniform(8, 24)), float(rng.uniform(9, 14))
        self.myocardium = float(rng.uniform(0.33, 0.48))
        self.fat = float(rng.uniform(0.85, 1.2))
        self.liver = self.myocardium * float(rng.uniform(0.85, 1.25))
        self.full: Box = (slice(None),) * 3

    def paint(self) -> None:
        """From the skin inwards."""
        self.trunk()
        self.mediastinum()
        self.spine()
        self.belly()
        self.vessels()
        self.ribs()

    def tissue(self, box: Box, value: float, texture: float = 0.03, patches: float = 0.03) -> Array:
        """A mean brightness with fine texture and slow changes."""
        return value + value * texture * self.fine[box] + value * patches * self.coarse[box]

    def tube(self, path: ArrayLike, radius: float, value: float, rim: float = 0.0) -> None:
        """A vessel; ``rim`` is the thickness of a dark wall."""
        box, d = self.canvas.tube(path, radius, room=rim + 2)
        if rim:
            self.canvas.paint(box, d - rim, self.tissue(box, MUSCLE))
        self.canvas.paint(box, d, self.tissue(box, value, 0.05))

    def trunk(self) -> None:
        """Fat under the skin, muscles, and lungs with their vessels."""
        x, y, _ = self.canvas.points
        x, y = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        relative = np.sqrt((x / np.float32(self.half[0])) ** 2 + (y / np.float32(self.half[1])) ** 2)
        skin = np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(relative, 1e-3))
        fat = self.skin_fat * (0.7 + 0.5 * np.abs(x) / np.float32(self.half[0])) + 1.5 * self.coarse
        self.cavity = skin + fat + np.float32(self.wall)
        full = self.full
        self.canvas.paint(full, skin, 0.45)
        self.canvas.paint(full, skin + 2.5, self.tissue(full, self.fat, 0.05, 0.06))
        self.canvas.paint(full, skin + fat, self.tissue(full, MUSCLE, 0.1, 0.1))
        lung = LUNG + 0.02 * self.coarse + 0.5 * np.clip(self.fine - 1.9, 0, 1)
        self.canvas.paint(full, self.cavity + 0.8 * self.coarse, lung)

    def mediastinum(self) -> None:
        """Fat and thymus in front of the heart and behind it."""
        p, full = self.canvas.points, self.full
        front = ellipsoid(p, (-42 + self.rng.normal(0, 5), 45, 50), (44, 34, 1e4))
        back = ellipsoid(p, (-32, -58 + self.rng.normal(0, 4), 50), (40, 44, 1e4))
        d = np.maximum(smooth_minimum(front, back, 12), self.cavity) + 1.5 * self.coarse
        self.canvas.paint(full, d, self.tissue(full, self.fat * 0.85, 0.1, 0.18))

    def spine(self) -> None:
        """Vertebrae and the cord in its bright fluid."""
        at = np.array([self.centre[0] + self.rng.normal(0, 4), self.centre[1] - self.half[1] + self.skin_fat + 45])
        path = _through(at, (4, 6))
        for radius, value in ((21.0, CORTICAL), (19.0, MARROW)):
            box, d = self.canvas.tube(path, radius, 2)
            self.canvas.paint(box, d, self.tissue(box, value, 0.08))
        low = _through(at - (0, 27), (4, 6))
        self.tube(low, 9.0, 1.15, rim=1.5)
        self.tube(low, 4.0, 0.55)
        for side in (-1, 1):
            self.tube(_through(np.add(at, (side * 30, -26)), (0, 4)), 17.0, MUSCLE)

    def belly(self) -> None:
        """Liver under the right ventricle, stomach and spleen under the left one, below the diaphragm."""
        box, rng = self.full, self.rng
        p = self.canvas.points
        inside = self.cavity + 1
        top = float(rng.normal(-46, 3))
        spleen = np.maximum(ellipsoid(p, rng.normal((88, top - 52, 10), 4), (34, 42, 62)), inside)
        self.canvas.paint(box, spleen, self.tissue(box, float(rng.uniform(0.45, 0.65))))
        centre, radii = rng.normal((48, top - 34, 10), 4), rng.normal(1, 0.08) * np.array([40, 34, 75])
        stomach = np.maximum(ellipsoid(p, centre, radii), inside) + 1.2 * self.coarse
        self.canvas.paint(box, stomach, self.tissue(box, MUSCLE))
        gas = p[1] > centre[1] + rng.uniform(0, 25)
        content = np.where(gas, AIR, self.tissue(box, float(rng.uniform(0.5, 1.1)), patches=0.12))
        self.canvas.paint(box, stomach + 4, content)
        centre = rng.normal((-66, top - 72, 20), 4)
        liver: Array = smooth_maximum(ellipsoid(p, centre, (108, 74, 190)), inside, 4) + 0.5 * self.coarse
        self.canvas.paint(box, liver - 2.5, self.tissue(box, MUSCLE * 0.8))
        self.canvas.paint(box, liver, self.tissue(box, self.liver, 0.05, 0.04))
        for _ in range(9):
            start = centre + rng.uniform(-1, 1, 3) * (75, 30, 90)
            nodes = start + np.cumsum(rng.normal(0, 22, (4, 3)), axis=0)
            tube, d = self.canvas.tube(spline_path(nodes, 7), float(rng.uniform(2.5, 5.5)), 1)
            self.canvas.paint(tube, np.maximum(d, liver[tube] + 4), self.tissue(tube, 0.85))

    def vessels(self) -> None:
        """Descending aorta, inferior vena cava, esophagus, the vessels beside the breastbone."""
        rng = self.rng
        at = rng.normal((4, -74), 3)
        self.tube(_through(at, rng.normal(0, 4, 2)), float(rng.uniform(9.5, 13)), 1.0, rim=1.8)
        at = rng.normal((-58, -56), 4)
        self.tube(_through(at, (4, 8)), float(rng.uniform(10, 14)), float(rng.uniform(0.7, 1.0)))
        self.tube(_through(rng.normal((-16, -66), 2)), 6.5, 0.4)
        for x in (-72, -40):
            front = self.centre[1] + self.half[1] - self.skin_fat - self.wall - 9
            self.tube(_through((x, front)), 2.0, 1.0)

    def ribs(self) -> None:
        """Dark rims around marrow in the wall of the chest, each running aslant through the slices."""
        for angle in np.arange(0, 2 * np.pi, 0.36) + self.rng.uniform(0, 0.3):
            if abs(np.cos(angle)) < 0.25:
                continue
            nodes = []
            for turn, z in ((-0.12, -60.0), (0.12, 160.0)):
                direction = np.array([np.cos(angle + turn), np.sin(angle + turn)])
                depth = self.skin_fat + 0.5 * self.wall
                radius = 1 / np.linalg.norm(direction / self.half) - depth
                nodes.append([*(self.centre + radius * direction), z])
            self.tube(nodes, 6.0, CORTICAL)
            self.tube(nodes, 4.2, MARROW)


def paint_heart(rng: np.random.Generator, chest: Chest, heart: Heart, canvas: Canvas) -> None:
    """Paint the heart at one moment over the chest, with its labels.

    Args:
        rng: the same numbers at every moment: the same papillary muscles, valves and vessels.
        chest: gives textures and brightness.
        heart: the moment.
        canvas: a copy of the chest's.
    """
    reach = heart.radius + heart.wall
    box = canvas.box((-reach - 75, -reach - 30, -12), (reach + 40, reach + 40, heart.base + 60))
    p = canvas.at(box)
    coarse, fine = chest.coarse[box], chest.fine[box]
    right, outer, inner = heart.ventricles(p)
    muscle = chest.tissue(box, chest.myocardium, 0.05, 0.04)
    blood = 1 + 0.03 * fine + 0.04 * coarse
    top = heart.base
    left_atrium = ellipsoid(p, rng.normal((4, -12, top + 24), 3), (33, 27, 25))
    right_atrium = ellipsoid(p, rng.normal((-50, -12, top + 20), 3), (26, 29, 27))
    root, trunk = rng.normal((-14, 6), 2), rng.normal((-24, 26), 2)
    # fat under a thin dark pericardium
    whole = smooth_minimum(smooth_minimum(right - 3, outer, 10), smooth_minimum(left_atrium, right_atrium, 8), 8)
    fat = np.maximum(3 + 2.5 * coarse, 0.8)
    canvas.paint(box, whole - fat - 1.8, 0.18)
    canvas.paint(box, whole - fat, chest.tissue(box, chest.fat, 0.06, 0.08))
    for atrium in (left_atrium, right_atrium):
        canvas.paint(box, atrium, muscle)
        canvas.paint(box, atrium + 2.5, blood * np.float32(0.97))
    for at, drift, radius in ((trunk, (14, 10), 13.0), (root, (-4, 8), 14.5)):
        tube, d = canvas.tube([[*at, top - 2], [*(at + drift), top + 60]], radius, 4)
        canvas.paint(tube, d - 2, MUSCLE)
        canvas.paint(tube, d, chest.tissue(tube, 1.02, 0.04))
    # right ventricle: a thin wall, trabeculae that stand out into the blood
    canvas.paint(box, right - 3.2, muscle)
    canvas.paint(box, right, blood * np.float32(0.96), LABELS["right ventricle"])
    rough: Array = np.clip(0.8 * fine + 0.5 * coarse - 0.2 - np.maximum(-right - 1, 0) / 5, 0, 1)
    canvas.paint(box, right, canvas.value[box] + rough * (0.5 * muscle - 0.48))
    # left ventricle: papillary muscles and trabeculae belong to its cavity, as the publisher's labels have it
    canvas.paint(box, outer, muscle, LABELS["myocardium"])
    canvas.paint(box, inner, blood, LABELS["left ventricle"])
    rough = np.clip(0.8 * fine + 0.4 * coarse - 0.3 - np.maximum(-inner - 1, 0) / 3, 0, 1)
    canvas.paint(box, inner, canvas.value[box] + rough * (0.7 * muscle - 0.7))
    for angle in rng.normal((0.75, -1.15), 0.15):
        direction = np.array([np.cos(angle), np.sin(angle)])
        thick = float(rng.uniform(4.0, 6.0))
        path = np.array([[*(share * heart.radius * direction), z * top] for share, z in ((0.72, 0.3), (0.55, 0.68))])
        path[:, :2] -= np.outer(top - path[:, 2], np.array(heart.lean))
        tube, d = canvas.tube(path, [thick, 0.7 * thick], 1)
        canvas.paint(tube, d + 0.8 * chest.fine[tube], chest.tissue(tube, chest.myocardium * 1.05))
