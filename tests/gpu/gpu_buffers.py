"""Outputs and workspaces that show a write where none belongs, and the ops run on torch tensors."""

import gpu_kernels
import torch
from gpu_kernels import Kernels

POISON = 0xA5
GUARD = 4096  # bytes before and behind; a multiple of the workspace's alignment

DTYPES = {
    torch.float32: gpu_kernels.FLOAT32,
    torch.float16: gpu_kernels.FLOAT16,
    torch.bfloat16: gpu_kernels.BFLOAT16,
}


class Guarded:
    """A poisoned tensor between two poisoned bands."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.size = torch.Size(shape).numel() * dtype.itemsize
        self._bytes = torch.full((2 * GUARD + self.size,), POISON, dtype=torch.uint8, device="cuda")
        self.tensor = self._bytes[GUARD : GUARD + self.size].view(dtype).view(shape)
        self.pointer = self._bytes.data_ptr() + GUARD

    def check(self) -> None:
        before, behind = self._bytes[:GUARD], self._bytes[GUARD + self.size :]
        assert bool((before == POISON).all()), "something was written before this buffer"
        assert bool((behind == POISON).all()), "something was written behind this buffer"


class NmsCall:
    """One PaddedNMS call with buffers of its own; run() puts it into the current stream."""

    def __init__(
        self, kernels: Kernels, boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float,
        score_threshold: float, keep_top_k: int, box_offset: int,
    ) -> None:  # fmt: skip
        assert boxes.dtype == scores.dtype
        assert boxes.is_contiguous()
        assert scores.is_contiguous()
        self.kernels, self.boxes, self.scores = kernels, boxes, scores
        self.attributes = (iou_threshold, score_threshold, box_offset)
        self.keep_top_k = keep_top_k
        self.sizes = (*scores.shape, keep_top_k)
        self.indices = Guarded((scores.shape[0], keep_top_k), torch.int32)
        self.count = Guarded((scores.shape[0],), torch.int32)
        self.workspace = Guarded((kernels.padded_nms_workspace(*self.sizes),), torch.uint8)

    def run(self) -> None:
        batch, classes, per_class, keep_top_k = self.sizes
        self.kernels.padded_nms(
            self.boxes.data_ptr(), self.scores.data_ptr(), self.indices.pointer,
            self.count.pointer, batch, classes, self.boxes.shape[1], per_class, keep_top_k,
            *self.attributes, DTYPES[self.scores.dtype], self.workspace.pointer,
            self.workspace.size, torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        torch.cuda.synchronize()
        for buffer in (self.indices, self.count, self.workspace):
            buffer.check()
        return self.indices.tensor.cpu(), self.count.tensor.cpu()


def padded_nms(kernels: Kernels, *arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
    call = NmsCall(kernels, *arguments)
    call.run()
    return call.result()


def in_memory(tensor: torch.Tensor, layout: int) -> torch.Tensor:
    """Return [N, C, H, W] as the kernels' format has it: contiguous, its padding NaN."""
    if layout == gpu_kernels.NCHW:
        return tensor.contiguous()
    last = tensor.permute(0, 2, 3, 1)
    if layout == gpu_kernels.NHWC8:
        last = torch.nn.functional.pad(last, (0, -last.shape[3] % 8), value=float("nan"))
    return last.contiguous()


class RoiCall:
    """One MaskRcnnROIAlign call with buffers of its own; run() puts it into the current stream.

    ``features`` are [B, C, H, W]; with another format the call has a copy in it, and the result is
    turned back.
    """

    def __init__(
        self, kernels: Kernels, features: torch.Tensor, rois: torch.Tensor,
        batch_indices: torch.Tensor | None, output: tuple[int, int], spatial_scale: float,
        sampling_ratio: int, aligned: int, mode: int = gpu_kernels.AVERAGE,
        features_format: int = gpu_kernels.NCHW, pooled_format: int = gpu_kernels.NCHW,
    ) -> None:  # fmt: skip
        if batch_indices is None:
            batch_indices = torch.zeros(len(rois), dtype=torch.int32, device="cuda")
        for tensor in (features, rois, batch_indices):
            assert tensor.is_contiguous()
        assert rois.dtype == torch.float32
        assert batch_indices.dtype == torch.int32
        self.kernels = kernels
        self.rois, self.batch_indices = rois, batch_indices
        self.features = in_memory(features, features_format)
        self.attributes = (spatial_scale, sampling_ratio, aligned, mode)
        self.formats = (features_format, pooled_format)
        self.sizes = (*features.shape, len(rois), *output)
        channels = features.shape[1]
        shape = (len(rois), channels, *output)
        if pooled_format != gpu_kernels.NCHW:
            padded = -(-channels // 8) * 8
            shape = (len(rois), *output, padded if pooled_format == gpu_kernels.NHWC8 else channels)
        self.pooled = Guarded(shape, features.dtype)
        self.workspace = Guarded((kernels.roi_align_workspace(*self.sizes),), torch.uint8)

    def run(self) -> None:
        self.kernels.roi_align(
            self.features.data_ptr(), self.rois.data_ptr(), self.batch_indices.data_ptr(),
            self.pooled.pointer, *self.sizes, *self.attributes, DTYPES[self.features.dtype],
            *self.formats, self.workspace.pointer, self.workspace.size,
            torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip

    def result(self) -> torch.Tensor:
        torch.cuda.synchronize()
        self.pooled.check()
        self.workspace.check()
        pooled = self.pooled.tensor.cpu()
        if self.formats[1] == gpu_kernels.NCHW:
            return pooled
        channels = self.sizes[1]
        assert int(pooled[..., channels:].count_nonzero()) == 0, "padding is not zeros"
        return pooled[..., :channels].permute(0, 3, 1, 2).contiguous()


def roi_align(kernels: Kernels, *arguments: object, **more: int) -> torch.Tensor:
    call = RoiCall(kernels, *arguments, **more)
    call.run()
    return call.result()


class MultiscaleCall:
    """One MultiscaleRoIAlign call with buffers of its own, as RoiCall."""

    def __init__(
        self, kernels: Kernels, maps: "list[torch.Tensor]", rois: torch.Tensor,
        batch_indices: torch.Tensor, output: tuple[int, int], scales: "list[float]",
        sampling_ratio: int, aligned: int, canonical: tuple[int, int] = (224, 4),
        features_format: int = gpu_kernels.NCHW, pooled_format: int = gpu_kernels.NCHW,
    ) -> None:  # fmt: skip
        self.kernels, self.rois, self.batch_indices = kernels, rois, batch_indices
        self.maps = [in_memory(each, features_format) for each in maps]
        self.sides = [each.shape[2:] for each in maps]
        self.scales = scales
        self.attributes = (sampling_ratio, aligned, *canonical)
        self.formats = (features_format, pooled_format)
        batch, self.channels = maps[0].shape[:2]
        self.sizes = (batch, self.channels, len(rois), *output)
        shape = (len(rois), self.channels, *output)
        if pooled_format != gpu_kernels.NCHW:
            padded = -(-self.channels // 8) * 8
            last = padded if pooled_format == gpu_kernels.NHWC8 else self.channels
            shape = (len(rois), *output, last)
        self.pooled = Guarded(shape, maps[0].dtype)
        size = kernels.multiscale_workspace(len(rois), *output)
        self.workspace = Guarded((size,), torch.uint8)

    def run(self) -> None:
        self.kernels.multiscale_roi_align(
            [each.data_ptr() for each in self.maps], self.rois.data_ptr(),
            self.batch_indices.data_ptr(), self.pooled.pointer, [side[0] for side in self.sides],
            [side[1] for side in self.sides], self.scales, *self.sizes, *self.attributes,
            DTYPES[self.maps[0].dtype], *self.formats, self.workspace.pointer, self.workspace.size,
            torch.cuda.current_stream().cuda_stream,
        )  # fmt: skip

    def result(self) -> torch.Tensor:
        torch.cuda.synchronize()
        self.pooled.check()
        self.workspace.check()
        pooled = self.pooled.tensor.cpu()
        if self.formats[1] == gpu_kernels.NCHW:
            return pooled
        padding = pooled[..., self.channels :]
        assert int(padding.count_nonzero()) == 0, "padding is not zeros"
        return pooled[..., : self.channels].permute(0, 3, 1, 2).contiguous()


def multiscale_roi_align(kernels: Kernels, *arguments: object, **more: object) -> torch.Tensor:
    call = MultiscaleCall(kernels, *arguments, **more)
    call.run()
    return call.result()
