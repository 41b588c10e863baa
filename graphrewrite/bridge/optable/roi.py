"""Regions of pictures, pooled to one size."""

import torch

from graphrewrite.bridge.forms import op


@op("RoiAlign", since=16)
def roi_align(
    x: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> torch.Tensor:
    """Read each region [x1, y1, x2, y2] at points between the pixels, and average them or take the largest.

    The largest is taken of the weighted neighbours of all points, as ONNX defines it, not of the points themselves.
    """
    shifted = coordinate_transformation_mode == "half_pixel"
    corners = rois.to(x.dtype) * spatial_scale - (0.5 if shifted else 0.0)
    sizes = corners[:, 2:] - corners[:, :2]
    if not shifted:
        sizes = sizes.clamp_min(1.0)
    bins = sizes / sizes.new_tensor((output_width, output_height))
    counts = [[sampling_ratio] * 2] * len(rois) if sampling_ratio > 0 else bins.ceil().long().tolist()
    pooled = [x.new_zeros(0, x.shape[1], output_height, output_width)]
    for region, (across, down) in enumerate(counts):
        if across < 1 or down < 1:
            pooled.append(x.new_zeros(1, x.shape[1], output_height, output_width))
            continue
        image = x.index_select(0, batch_indices[region : region + 1].long())[0]
        rows, by_row = _points(corners[region, 1], bins[region, 1], output_height, down, x.shape[2])
        columns, by_column = _points(corners[region, 0], bins[region, 0], output_width, across, x.shape[3])
        read = image.index_select(1, rows.flatten()).index_select(2, columns.flatten())
        read = read.reshape(-1, *rows.shape, *columns.shape) * (by_row[:, :, None, None] * by_column)
        found = read.sum((2, 4)) / (across * down) if mode == "avg" else read.amax((2, 4))
        pooled.append(found[None])
    return torch.cat(pooled)


@op("RoiAlign", since=10)
def roi_align_unshifted(
    x: torch.Tensor,
    rois: torch.Tensor,
    batch_indices: torch.Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> torch.Tensor:
    """Do so with regions that are not moved by half a pixel, as before version 16."""
    return roi_align(
        x,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


def _points(
    start: torch.Tensor, step: torch.Tensor, bins: int, points: int, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pixels beside the points of each bin along one axis and their weights [bins, 2 * points]."""
    within = (torch.arange(points, device=start.device, dtype=start.dtype) + 0.5) / points
    place = start + (torch.arange(bins, device=start.device, dtype=start.dtype)[:, None] + within) * step
    there = (place >= -1.0) & (place <= size)
    place = place.clamp(0.0, size - 1)
    low = place.detach().floor()
    share = place - low
    low = low.long()
    pixels = torch.stack((low, (low + 1).clamp_max(size - 1)), -1)
    weights = torch.stack((1.0 - share, share), -1) * there[:, :, None]
    return pixels.flatten(1), weights.flatten(1)


@op("MaxRoiPool")
def max_roi_pool(
    x: torch.Tensor, rois: torch.Tensor, *, pooled_shape: tuple[int, ...], spatial_scale: float = 1.0
) -> torch.Tensor:
    """Take the largest pixel of each bin of each region [image, x1, y1, x2, y2]; an empty bin is zero."""
    height, width = pooled_shape
    scaled = rois[:, 1:] * spatial_scale
    corners = torch.trunc(scaled + 0.5 * scaled.sign())  # halves away from zero
    pooled = [x.new_zeros(0, x.shape[1], height, width)]
    for region in range(len(rois)):
        image = x.index_select(0, rois[region, :1].long())[0]
        left, top, right, bottom = corners[region].unbind()
        rows = _in_bins(top, bottom, height, x.shape[2])
        columns = _in_bins(left, right, width, x.shape[3])
        by_row = image.masked_fill(~rows[:, None, :, None], float("-inf")).amax(2)  # [bins, channels, width]
        found = by_row[:, :, None].masked_fill(~columns, float("-inf")).amax(3)  # [bins, channels, bins]
        empty = ~(rows.any(1)[:, None] & columns.any(1))
        pooled.append(found.transpose(0, 1).masked_fill(empty, 0.0)[None])
    return torch.cat(pooled)


def _in_bins(first: torch.Tensor, last: torch.Tensor, bins: int, size: int) -> torch.Tensor:
    """Tell which pixels of an axis belong to which bin of a region, [bins, size]."""
    step = (last - first + 1.0).clamp_min(1.0) / bins
    number = torch.arange(bins, device=first.device, dtype=first.dtype)
    low, high = (number * step).floor() + first, ((number + 1.0) * step).ceil() + first
    pixel = torch.arange(size, device=first.device, dtype=first.dtype)
    return (pixel >= low[:, None]) & (pixel < high[:, None])
