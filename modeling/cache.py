"""A cache of keys and values with room behind its tokens: what is written next copies itself, not all before it.

Shapes: B rows, G key-value heads, T tokens, D head width.
"""

import torch
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache
from transformers.utils.import_utils import is_tracing

ROOM = 64  # tokens


class GrowingLayer(DynamicLayer):
    """A dynamic layer of transformers, which copies all its tokens for each further one, but once in `ROOM` of them.

    Attributes:
        keys, values: (B, G, T, D) each, the beginning of a tensor in `rooms`.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rooms: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds (B, G, T, D) each, and gives all that there are by now."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        tensors = (self.keys, self.values, key_states, value_states)
        if is_tracing(key_states) or any(x.requires_grad for x in tensors):
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys = self._append("keys", self.keys, key_states)
        self.values = self._append("values", self.values, value_states)
        return self.keys, self.values

    def _append(self, name: str, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        past = held.shape[-2] if held.numel() else 0
        total, dtype = past + new.shape[-2], torch.promote_types(held.dtype, new.dtype)
        room = self.rooms.get(name)
        if room is None or room.dtype != dtype or not _has_room(room, held, total):
            room = self.rooms[name] = new.new_empty(*new.shape[:-2], total + ROOM, new.shape[-1], dtype=dtype)
            if past:
                room[..., :past, :] = held
        room[..., past:total, :] = new
        return room[..., :total, :]


def _has_room(room: torch.Tensor, held: torch.Tensor, total: int) -> bool:
    """Whether `held` is still the beginning of `room`, which beams and moves to other devices end, and more fits in."""
    return (
        room.data_ptr() == held.data_ptr()
        and room.stride() == held.stride()
        and room.shape[:-2] == held.shape[:-2]
        and room.shape[-2] >= total
        and room.is_inference() == torch.is_inference_mode_enabled()
    )


def growing_cache(cache: Cache | None) -> Cache | None:
    """The part of a cache that the self-attention fills, whose dynamic layers get room as long as they are empty."""
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    if cache is None or torch.compiler.is_compiling() or cache.offloading:
        return cache
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = GrowingLayer
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and not layer.is_initialized:
            cache.layers[index] = GrowingLayer()
    return cache
