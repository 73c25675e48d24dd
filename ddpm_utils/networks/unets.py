"""U-Net decoders: one made for two CPU cores, and one of the size that the finished coursework used.

Both keep the interface of `cnn.CNN`, g(z_t, t/T) → ε. A U-Net works on several scales (Ronneberger et al. 2015):
at a quarter of the width a 3×3 kernel spans half a digit, so global decisions are cheap, and skip connections carry
the fine detail past them.
"""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_utils.networks.cnn import TimeEncoding

Map = Float[Tensor, "batch channels height width"]


class ModulatedBlock(nn.Module):
    """x + conv(SiLU(a(t)·normalised(conv(SiLU(x))) + b(t))), both convolutions 3×3.

    The normalisation is over the channels of each pixel. a and b are linear in the time encoding (FiLM; Perez et al.
    2018). The second convolution and a − 1, b begin at 0, so that a new block is the identity.
    """

    def __init__(self, channels: int, time_features: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(time_features, 2 * channels)
        for layer in (self.second, self.modulation):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Map, time: Float[Tensor, "batch features"]) -> Map:
        """time: its encoding."""
        h = self.first(F.silu(x))
        h = F.layer_norm(h.permute(0, 2, 3, 1), h.shape[1:2]).permute(0, 3, 1, 2)
        scale, shift = self.modulation(time)[:, :, None, None].chunk(2, dim=1)
        return x + self.second(F.silu(torch.addcmul(shift, 1 + scale, h)))


class LeanUNet(nn.Module):
    """A U-Net for CPUs: few, wide convolutions on two scales, 14×14 and 7×7, and nothing at 28×28.

    What costs time on two cores is many small layers, group normalisation, attention and large maps of few channels.
    So the image's pixels are folded into channels first, 1×28×28 → 4×14×14 (pixel unshuffle; Shi et al. 2016), all
    maps are channels-last, and each block normalises once. The estimate is c(t)·z_t + h: where z_t is nearly pure
    noise, z_t itself is a good answer.

    Args:
        widths: channels at 14×14 and at 7×7.
        blocks: how many at 14×14 on the way down, at 7×7, and at 14×14 on the way up.
        features: of the time encoding.
    """

    def __init__(
        self, widths: tuple[int, int] = (48, 96), blocks: tuple[int, int, int] = (1, 2, 1), features: int = 128
    ):
        super().__init__()
        wide, deep = widths

        def stack(count: int, channels: int) -> nn.ModuleList:
            return nn.ModuleList(ModulatedBlock(channels, features) for _ in range(count))

        self.time_encoding = nn.Sequential(TimeEncoding(features), nn.SiLU())
        self.copied = nn.Linear(features, 1)  # c(t)
        self.enter = nn.Conv2d(4, wide, 3, padding=1)
        self.down = stack(blocks[0], wide)
        self.shrink = nn.Conv2d(wide, deep, 2, stride=2)
        self.bottom = stack(blocks[1], deep)
        self.grow = nn.Conv2d(deep, 4 * wide, 1)
        self.up = stack(blocks[2], wide)
        self.leave = nn.Conv2d(wide, 4, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        self.to(memory_format=torch.channels_last)

    def forward(
        self, z: Float[Tensor, "batch 1 28 28"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 28 28"]:
        """Estimate ε from z_t and time = t/T in [0, 1]."""
        encoded = self.time_encoding(time)
        h = F.pixel_unshuffle(z, 2).contiguous(memory_format=torch.channels_last)
        h = self.enter(h)
        for block in self.down:
            h = block(h, encoded)
        skip = h
        h = self.shrink(h)
        for block in self.bottom:
            h = block(h, encoded)
        h = skip + F.pixel_shuffle(self.grow(h), 2)
        for block in self.up:
            h = block(h, encoded)
        return F.pixel_shuffle(self.leave(F.silu(h)), 2) + self.copied(encoded)[:, :, None, None] * z


class SinusoidalEncoding(nn.Module):
    """t/T → sines and cosines of 1000·t/T at geometric frequencies 1 … 1/10,000 (Vaswani et al. 2017), then an MLP."""

    frequencies: Tensor

    def __init__(self, width: int, features: int):
        super().__init__()
        frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
        self.register_buffer("frequencies", 1000 * frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(width, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())

    def forward(self, time: Float[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        """time: t/T in [0, 1]."""
        angle = time[:, None] * self.frequencies
        return self.mlp(torch.cat([angle.sin(), angle.cos()], dim=1))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, each after a group normalisation and SiLU; the time is added between (Ho et al. 2020)."""

    def __init__(self, before: int, after: int, time_features: int, groups: int = 8):
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(groups, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.time = nn.Linear(time_features, after)
        self.second = nn.Sequential(nn.GroupNorm(groups, after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch before height width"], time: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch after height width"]:
        """time: its encoding."""
        h = self.first(x) + self.time(time)[:, :, None, None]
        return self.skip(x) + self.second(h)


class Attention(nn.Module):
    """x + self-attention of the pixels, one head (Vaswani et al. 2017)."""

    def __init__(self, channels: int, groups: int = 8):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Map) -> Map:
        """Each pixel looks at all pixels."""
        q, k, v = self.qkv(self.norm(x)).flatten(2).mT.chunk(3, dim=2)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).mT.reshape(x.shape))


class UNet(nn.Module):
    """The usual U-Net of DDPM, small: scales 28, 14 and 7, attention at 7×7 (Ho et al. 2020, appendix B).

    Args:
        width: channels at 28×28, to be multiplied.
        multipliers: of the width, for each scale from 28×28 down.
    """

    def __init__(self, width: int = 32, multipliers: tuple[int, ...] = (1, 2, 4)):
        super().__init__()
        features = 4 * width
        widths = [width * m for m in multipliers]
        self.time_encoding = SinusoidalEncoding(width, features)
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(a, b, features) for a, b in pairwise([width, *widths]))
        self.shrink = nn.ModuleList(nn.Conv2d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], features) for _ in range(2))
        self.attention = nn.ModuleList(Attention(widths[-1]) for _ in range(2))
        steps = list(pairwise([widths[-1], *reversed(widths)]))
        self.up = nn.ModuleList(ResidualBlock(a + b, b, features) for a, b in steps)
        self.grow = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in reversed(widths[1:]))
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(
        self, z: Float[Tensor, "batch 1 28 28"], time: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 28 28"]:
        """Estimate ε from z_t and time = t/T in [0, 1]."""
        encoded = self.time_encoding(time)
        h = self.enter(z)
        skips = []
        for level, block in enumerate(self.down):
            h = block(h if level == 0 else self.shrink[level - 1](h), encoded)
            skips.append(h)
        h = self.middle[0](self.attention[0](h), encoded)
        h = self.middle[1](self.attention[1](h), encoded)
        for level, block in enumerate(self.up):
            h = block(torch.cat([h, skips.pop()], dim=1), encoded)
            if skips:
                h = self.grow[level](F.interpolate(h, scale_factor=2))
        return self.leave(h)
