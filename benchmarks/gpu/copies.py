# SPDX-License-Identifier: Apache-2.0
"""Slices there and labels back, one after the other, and from pinned memory on streams beside the network's."""

from __future__ import annotations

import torch

from benchmarks.gpu.data import trained
from benchmarks.gpu.job import Job, Row, Steps, precision
from benchmarks.gpu.timing import compared, in_turns
from monai_ext.inferers.upsampled_labels import upsampled_labels
from monai_ext.transforms import resize_slices


def copies(job: Job) -> Steps:
    method = job.methods[0]
    count, side = (8, 64) if job.tiny else (148, 512)

    def overlap() -> list[Row]:
        network = trained(job, method)[0]
        batches = torch.rand(count, 1, side, side).split(method.batch)
        pinned = [batch.pin_memory() for batch in batches]
        labels = torch.empty((count, 1, side, side), dtype=torch.uint8, pin_memory=True)
        there, back = torch.cuda.Stream(), torch.cuda.Stream()

        @torch.no_grad()
        def predict(batch: torch.Tensor) -> torch.Tensor:
            with precision("bfloat16", job.device):
                scores = network(resize_slices(batch, method.size, "cubic"))
            return upsampled_labels(scores.float(), (side, side))

        def in_order() -> torch.Tensor:
            return torch.cat([predict(batch.to(job.device)).cpu() for batch in batches])

        def overlapped() -> torch.Tensor:
            main = torch.cuda.current_stream()
            with torch.cuda.stream(there):
                arrived = [(batch.to(job.device, non_blocking=True), there.record_event()) for batch in pinned]
            for (batch, event), target in zip(arrived, labels.split(method.batch), strict=True):
                main.wait_event(event)
                batch.record_stream(main)  # its memory stays until the network has read it
                found = predict(batch)
                back.wait_stream(main)
                with torch.cuda.stream(back):
                    target.copy_(found, non_blocking=True)
                found.record_stream(back)
            torch.cuda.synchronize()
            return labels

        torch.testing.assert_close(overlapped(), in_order(), rtol=0, atol=0)
        times = in_turns({"in order": in_order, "pinned, own streams": overlapped}, job.rounds, job.device)
        what = f"{count} slices of {side}x{side}"
        return [{"what": f"{what}, {name}", **compared(times[name], times["in order"])} for name in times]

    if job.device.type == "cuda":
        yield "copies", 5, overlap
