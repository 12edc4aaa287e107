"""Where a token stands: rotary, sinusoidal, relative (T5) and linear-bias (ALiBi) positions.

Learned positions are a table and live in `embeddings.py`. Nothing here is stored in a checkpoint except the T5 table.

Shapes: B batch, H heads, Q queries, K keys, T positions, D rotated features of a head.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import nn
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, dynamic_rope_update

from ..configuration.base import TriviumConfig


class TriviumRotaryEmbedding(nn.Module):
    """Cosines and sines of RoPE (Su et al., 2021), with every scaling that transformers knows.

    The buffers are not saved; `PreTrainedModel._init_weights` refills them after loading, which is what the names
    `inv_freq`, `original_inv_freq` and `rope_type` are for.
    """

    def __init__(self, config: TriviumConfig):
        super().__init__()
        self.inv_freq: torch.Tensor
        self.config = config
        self.rope_type = config.rope_parameters["rope_type"]
        self.max_seq_len_cached = self.original_max_seq_len = config.max_position_embeddings
        compute = ROPE_INIT_FUNCTIONS.get(self.rope_type, self.compute_default_rope_parameters)
        if self.rope_type == "default":
            compute = self.compute_default_rope_parameters
        inv_freq, self.attention_scaling = compute(config)
        self.register_buffer("inv_freq", inv_freq, persistent=False)
        self.register_buffer("original_inv_freq", inv_freq.clone(), persistent=False)

    @staticmethod
    def compute_default_rope_parameters(config: TriviumConfig, device=None, **_) -> tuple[torch.Tensor, float]:
        """Inverse frequencies (D / 2,) and the factor on cosine and sine, which plain RoPE leaves at one."""
        parameters = config.rope_parameters
        width = int(config.head_dim * parameters.get("partial_rotary_factor", 1.0))
        exponents = torch.arange(0, width, 2, dtype=torch.float, device=device) / width
        return 1.0 / parameters["rope_theta"] ** exponents, 1.0

    def _apply(self, fn: Callable, recurse: bool = True) -> "TriviumRotaryEmbedding":
        """Moves the frequencies with the model but leaves them in float32: `model.bfloat16()` would turn them off their
        angles, and a checkpoint of that model, loaded with exact ones, would not say what the model said.
        """
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            moved = getattr(self, name)
            if moved.dtype != buffer.dtype:
                setattr(self, name, buffer.to(moved.device))
        return self

    @torch.no_grad()
    @dynamic_rope_update
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Position ids (B or 1, T) -> what [`apply_rotary`] takes, in the dtype of `x`, computed in float32."""
        angles = position_ids[:, None, :, None].float() * self.inv_freq.to(device=x.device, dtype=torch.float)
        cos, sin = angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling
        return torch.cat((cos, cos), dim=-1).to(x.dtype), torch.cat((-sin, sin), dim=-1).to(x.dtype)


def rotary_embeddings(config: TriviumConfig) -> nn.ModuleDict:
    """One rotary embedding per layer type if `rope_parameters` is given per type, else one that all types share."""
    kinds = [kind for kind in sorted(set(config.layer_types)) if kind in config.rope_parameters]
    if not kinds:
        return nn.ModuleDict({"shared": TriviumRotaryEmbedding(config)})
    modules = {}
    for kind in kinds:
        flat = copy.copy(config)
        flat.rope_parameters = config.rope_parameters[kind]
        modules[kind] = TriviumRotaryEmbedding(flat)
    return nn.ModuleDict(modules)


def apply_rotary(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates the first D features of queries or keys (B, H, T, head_dim).

    Feature i turns together with i + D / 2. cos and sin are (B or 1, 1, T, D), the sines of the first half negative.
    """
    width = cos.shape[-1]
    first = x[..., :width]
    turned = torch.addcmul(first * cos, first.roll(width // 2, dims=-1), sin)
    return turned if width == x.shape[-1] else torch.cat((turned, x[..., width:]), dim=-1)


def sinusoidal_positions(position_ids: torch.Tensor, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Position ids (B, T) -> (B, T, width): all sines, then all cosines (Vaswani et al., 2017, as in their code).

    The paper interleaves them; the order of the features is immaterial, and checkpoints have them in halves. The angles
    are computed in float64 where there is one, since float32 is off by 1e-4 at some thousand positions.
    """
    exact = torch.float32 if position_ids.device.type == "mps" else torch.float64
    steps = torch.arange(0, width, 2, dtype=exact, device=position_ids.device) / width
    angles = position_ids[..., None].to(exact) / torch.pow(10_000.0, steps)
    return torch.cat((angles.sin(), angles.cos()), dim=-1).to(dtype)


class TriviumRelativeBias(nn.Module):
    """T5's bias (Raffel et al., 2020): a learnt number per head and bucket of distance, shared by all layers."""

    def __init__(self, config: TriviumConfig, is_causal: bool):
        super().__init__()
        self.is_causal = is_causal
        self.num_buckets = config.relative_attention_num_buckets
        self.max_distance = config.relative_attention_max_distance
        self.table = nn.Embedding(self.num_buckets, config.num_attention_heads)

    def forward(self, query_positions: torch.Tensor, key_positions: torch.Tensor) -> torch.Tensor:
        """Positions (Q,) and (K,) -> bias (1, H, Q, K)."""
        distance = key_positions[None, :] - query_positions[:, None]
        return self.table(self.bucket(distance)).permute(2, 0, 1).unsqueeze(0)

    def bucket(self, distance: torch.Tensor) -> torch.Tensor:
        """Buckets of key minus query position: half of them exact, the rest logarithmic up to `max_distance`."""
        buckets, offset = self.num_buckets, torch.zeros_like(distance)
        if self.is_causal:
            distance = (-distance).clamp(min=0)
        else:
            buckets //= 2
            offset, distance = (distance > 0).long() * buckets, distance.abs()
        exact = buckets // 2
        steps = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (steps * (buckets - exact)).long()).clamp(max=buckets - 1)
        return offset + torch.where(distance < exact, distance, far)


class TriviumAlibiBias(nn.Module):
    """ALiBi (Press et al., 2022): a fixed slope per head times the distance. It has no parameters and no buffers."""

    def __init__(self, config: TriviumConfig):
        super().__init__()
        self.slopes = alibi_slopes(config.num_attention_heads)

    def forward(self, query_positions: torch.Tensor, key_positions: torch.Tensor) -> torch.Tensor:
        """Positions (Q,) and (K,) -> bias (1, H, Q, K)."""
        distance = (key_positions[None, :] - query_positions[:, None]).abs().float()
        slopes = torch.tensor(self.slopes, device=distance.device).view(1, -1, 1, 1)
        return -slopes * distance


def alibi_slopes(heads: int) -> list[float]:
    """The geometric slopes of the paper; for a number of heads that is no power of two, its interleaving."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    extra = [2.0 ** (-4.0 * (i + 1) / power) for i in range(0, 2 * (heads - power), 2)]
    return slopes + extra
