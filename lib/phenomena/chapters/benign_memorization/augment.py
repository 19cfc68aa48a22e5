"""Random augmentation of whole batches, as a function of the inputs and of uniform numbers.

All randomness is in `u`, one row of numbers in [0, 1) for each sample: the same row gives the same augmentation. So B
distinct augmentations of a sample are B rows of u, and unlimited diversity is a fresh draw.

Letters: b rows of a batch, c channels, l signal length, h and w image height and width, q numbers for each sample.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# --- signals: x (b, c, l) ---------------------------------------------------------------------------------------------


def shift(x: Float[Tensor, "b c l"], u: Float[Tensor, "b 1"], strength: float) -> Float[Tensor, "b c l"]:
    """Moves the signal cyclically by up to strength x 20 % of its length (linear interpolation)."""
    length = x.shape[-1]
    offset = (2 * u - 1) * 0.2 * strength * length  # (b, 1)
    whole = offset.floor()
    index = torch.arange(length, device=x.device) - whole.long()  # (b, l)
    here, before = (x.gather(-1, (i % length).unsqueeze(1).expand_as(x)) for i in (index, index - 1))
    return torch.lerp(here, before, (offset - whole).unsqueeze(-1))


def scale(x: Float[Tensor, "b c l"], u: Float[Tensor, "b 1"], strength: float) -> Float[Tensor, "b c l"]:
    """Multiplies the signal by a factor in 1 ± 0.3 strength."""
    return x * (1 + (2 * u - 1) * 0.3 * strength).unsqueeze(-1)


def shear(x: Float[Tensor, "b c l"], u: Float[Tensor, "b 1"], strength: float) -> Float[Tensor, "b c l"]:
    """Adds a straight line that falls or rises by up to strength over the signal."""
    line = torch.linspace(-0.5, 0.5, x.shape[-1], device=x.device, dtype=x.dtype)
    return x + ((2 * u - 1) * strength).unsqueeze(-1) * line


def noise(x: Float[Tensor, "b c l"], u: Float[Tensor, "b c*l"], strength: float) -> Float[Tensor, "b c l"]:
    """Adds Gaussian noise of standard deviation 0.2 strength at every point."""
    normal = torch.erfinv((2 * u - 1).clamp(-1 + 1e-6, 1 - 1e-6)) * 2**0.5
    return x + 0.2 * strength * normal.view_as(x)


# --- images: x (b, c, h, w) -------------------------------------------------------------------------------------------


def crop(x: Float[Tensor, "b c h w"], u: Float[Tensor, "b 2"], strength: float) -> Float[Tensor, "b c h w"]:
    """Moves the image by up to strength / 7 of its smaller side each way, with zeros outside (pad and crop)."""
    h, w = x.shape[-2:]
    pad = max(1, round(strength * min(h, w) / 7))
    padded = F.pad(x, (pad, pad, pad, pad))
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (b, c, 2 pad + 1, 2 pad + 1, h, w), a view
    top, left = (u * (2 * pad + 1)).long().unbind(1)
    return windows[torch.arange(len(x), device=x.device), :, top, left]


def flip(x: Float[Tensor, "b c h w"], u: Float[Tensor, "b 1"], strength: float) -> Float[Tensor, "b c h w"]:
    """Mirrors left and right with probability min(strength, 1) / 2."""
    mirrored = u.view(-1, 1, 1, 1) < min(strength, 1) / 2
    return torch.where(mirrored, x.flip(-1), x)


def affine(x: Float[Tensor, "b c h w"], u: Float[Tensor, "b 2"], strength: float) -> Float[Tensor, "b c h w"]:
    """Rotates by up to strength x 15 degrees and zooms by a factor in 1 ± 0.15 strength (bilinear)."""
    angle, zoom = ((2 * u - 1) * torch.tensor([0.2618, 0.15], device=u.device, dtype=u.dtype) * strength).unbind(1)
    cos, sin, zero = angle.cos() * (1 + zoom), angle.sin() * (1 + zoom), torch.zeros_like(angle)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3).to(x.dtype)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def resized_crop(x: Float[Tensor, "b c h w"], u: Float[Tensor, "b 4"], strength: float) -> Float[Tensor, "b c h w"]:
    """Cuts out a window and stretches it to the full size (bilinear), like torchvision's RandomResizedCrop.

    The window has an area of 1 - 0.92 min(strength, 1) to 1 of the image and an aspect ratio of 3/4 to 4/3; a side
    longer than the image is cut to it, where torchvision draws again.
    """
    area = 1 - 0.92 * min(strength, 1) * u[:, 0]
    ratio = torch.exp((2 * u[:, 1] - 1) * 0.2877)  # log(4/3)
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    right, down = (2 * u[:, 2] - 1) * (1 - wide), (2 * u[:, 3] - 1) * (1 - high)
    zero = torch.zeros_like(wide)
    matrix = torch.stack([wide, zero, right, zero, high, down], 1).view(-1, 2, 3).to(x.dtype)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def erase(x: Float[Tensor, "b c h w"], u: Float[Tensor, "b 2"], strength: float) -> Float[Tensor, "b c h w"]:
    """Sets a square of side strength x 30 % of the image to zero, anywhere."""
    h, w = x.shape[-2:]
    rows, columns = torch.arange(h, device=x.device), torch.arange(w, device=x.device)
    inside = ((rows / h - u[:, :1]).abs() < 0.15 * strength).unsqueeze(2) & (
        (columns / w - u[:, 1:]).abs() < 0.15 * strength
    ).unsqueeze(1)
    return x.masked_fill(inside.unsqueeze(1), 0.0)


def brightness(x: Float[Tensor, "b c h w"], u: Float[Tensor, "b 1"], strength: float) -> Float[Tensor, "b c h w"]:
    """Multiplies all pixels by a factor in 1 ± 0.4 strength, kept within [0, 1]."""
    return (x * (1 + (2 * u - 1) * 0.4 * strength).view(-1, 1, 1, 1)).clamp(0, 1)


def colour(x: Float[Tensor, "b 3 h w"], u: Float[Tensor, "b 5"], strength: float) -> Float[Tensor, "b 3 h w"]:
    """Jitters brightness, contrast and saturation by factors in 1 ± 0.8 strength w.p. 0.8, then turns grey w.p. 0.2.

    The jitter of SimCLR without its shift of hue; needs three channels.
    """
    factors = 1 + (2 * u[:, :3] - 1) * 0.8 * strength * (u[:, 3:4] < 0.8)
    bright, contrast, saturation = (f.clamp(min=0).view(-1, 1, 1, 1) for f in factors.unbind(1))
    weights = torch.tensor([0.299, 0.587, 0.114], device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    out = (x * bright).clamp(0, 1)
    mean = (out * weights).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    out = torch.lerp(mean.expand_as(out), out, contrast).clamp(0, 1)
    grey = (out * weights).sum(1, keepdim=True).expand_as(out)
    out = torch.lerp(grey, out, saturation).clamp(0, 1)
    return torch.where(u[:, 4].view(-1, 1, 1, 1) < 0.2, (out * weights).sum(1, keepdim=True), out)


# --- compositions -----------------------------------------------------------------------------------------------------

Transform = Callable[[Tensor, Tensor, float], Tensor]

# name -> (the transform, how many uniform numbers it takes; 0 stands for one for each point of the signal)
SIGNAL: dict[str, tuple[Transform, int]] = {
    "shift": (shift, 1),
    "scale": (scale, 1),
    "shear": (shear, 1),
    "noise": (noise, 0),
}
IMAGE: dict[str, tuple[Transform, int]] = {
    "crop": (crop, 2),
    "flip": (flip, 1),
    "affine": (affine, 2),
    "resized_crop": (resized_crop, 4),
    "erase": (erase, 2),
    "brightness": (brightness, 1),
    "colour": (colour, 5),
}


def transforms(names: Sequence[str], shape: torch.Size) -> list[tuple[Transform, int]]:
    """The named transforms, and how many uniform numbers each takes, for samples of shape (c, l) or (c, h, w).

    Raises `ValueError` for a name that does not fit such samples.
    """
    known = SIGNAL if len(shape) == 2 else IMAGE
    for name in names:
        if name not in known:
            kind = "signals" if known is SIGNAL else "images"
            raise ValueError(f"augmentation {name!r} does not fit {kind}: choose among {', '.join(known)}")
        if name == "colour" and shape[0] != 3:
            raise ValueError(f"augmentation 'colour' needs three channels, the samples have {shape[0]}")
    return [(known[name][0], known[name][1] or shape.numel()) for name in names]


def numbers(names: Sequence[str], shape: torch.Size) -> int:
    """q: how many uniform numbers one sample's augmentation takes."""
    return sum(q for _, q in transforms(names, shape))


def augment(
    x: Float[Tensor, "b *sample"], u: Float[Tensor, "b q"], names: Sequence[str], strength: float = 1.0
) -> Float[Tensor, "b *sample"]:
    """Applies the named transforms in turn to signals (b, c, l) or images (b, c, h, w).

    u: uniform in [0, 1), with q = `numbers(names, shape)` columns.
    strength: 0 leaves x as it is, 1 is the documented range.
    Raises `ValueError` for a name that does not fit, a negative strength or a wrong q.
    """
    steps = transforms(names, x.shape[1:])
    wanted = [q for _, q in steps]
    if strength < 0:
        raise ValueError(f"strength is {strength}: must be 0 or more")
    if u.shape != (len(x), sum(wanted)):
        raise ValueError(f"u has shape {tuple(u.shape)}: must be {(len(x), sum(wanted))}")
    if strength == 0:
        return x
    for (transform, _), part in zip(steps, u.split(wanted, dim=1), strict=True):
        x = transform(x, part, strength)
    return x
