"""The Transformer of 2017 is `torch.nn.Transformer`; the other references are in `conversion/test_equality.py`."""

import math

import pytest
import torch
from torch import nn

from trivium import TriviumEncoderDecoderForConditionalGeneration, architecture
from trivium.configuration.encoder_decoder_pages import TRANSFORMER
from trivium.modeling.conversion.origin import Origin, read_state, table

SELF = """
    {side}.layers.*.self_attn.in_proj_weight     {side}.layers.*.self_attn.{{q,k,v}}_proj.weight
    {side}.layers.*.self_attn.in_proj_bias       {side}.layers.*.self_attn.{{q,k,v}}_proj.bias
    {side}.layers.*.self_attn.out_proj           {side}.layers.*.self_attn.o_proj
    {side}.layers.*.norm1                        {side}.layers.*.self_attn_residual.outer
    {side}.layers.*.linear1                      {side}.layers.*.mlp.up_proj
    {side}.layers.*.linear2                      {side}.layers.*.mlp.down_proj
    {side}.norm                                  {side}.norm
"""
REST = """
    encoder.layers.*.norm2                       encoder.layers.*.mlp_residual.outer
    decoder.layers.*.multihead_attn.in_proj_weight   decoder.layers.*.cross_attn.{q,k,v}_proj.weight
    decoder.layers.*.multihead_attn.in_proj_bias     decoder.layers.*.cross_attn.{q,k,v}_proj.bias
    decoder.layers.*.multihead_attn.out_proj     decoder.layers.*.cross_attn.o_proj
    decoder.layers.*.norm2                       decoder.layers.*.cross_attn_residual.outer
    decoder.layers.*.norm3                       decoder.layers.*.mlp_residual.outer
"""
TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
TORCH = Origin(
    model_type="torch.nn.Transformer",
    page=TRANSFORMER,
    fields={},
    heads={},
    body=table(SELF.format(side="encoder"), SELF.format(side="decoder"), REST),
    head=table(*(f"{name} {name}" for name in TIED)),
)
WIDTH, VOCAB = 24, 50


class PaperTransformer(nn.Module):
    """`torch.nn.Transformer` between scaled embeddings with sinusoids and the same embeddings (section 3.4)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Transformer(WIDTH, 4, 2, 3, 40, dropout=0.0, batch_first=True)
        self.embedding = nn.Embedding(VOCAB, WIDTH)

    def embed(self, ids):
        positions, powers = torch.arange(ids.shape[1]).double(), torch.arange(0, WIDTH, 2).double() / WIDTH
        angles = positions[:, None] / 10_000.0**powers
        return self.embedding(ids) * math.sqrt(WIDTH) + torch.cat((angles.sin(), angles.cos()), 1)

    def forward(self, source, mask, target):
        hidden = self.body(
            self.embed(source),
            self.embed(target),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64),
            src_key_padding_mask=mask == 0,
            memory_key_padding_mask=mask == 0,
            tgt_is_causal=True,
        )
        return hidden @ self.embedding.weight.T


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_transformer_of_2017_is_that_of_torch():
    torch.manual_seed(0)
    theirs = PaperTransformer().double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    sizes = dict(hidden_size=WIDTH, intermediate_size=40, num_attention_heads=4, vocab_size=VOCAB)
    layers = dict(encoder=dict(num_hidden_layers=2), decoder=dict(num_hidden_layers=3))
    # Torch's has a norm after each stack, which the paper has not.
    config = architecture("transformer-base", **sizes, **layers, final_norm=True)
    ours = TriviumEncoderDecoderForConditionalGeneration(config).double()
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}

    def renamed(values):
        state = {key.removeprefix("body."): value for key, value in values.items()}
        embedding = state.pop("embedding.weight")
        return read_state(TORCH, state | dict.fromkeys(TIED, embedding), shapes, 4, "")

    ours.load_state_dict(renamed(theirs.state_dict()))
    source, target = torch.randint(3, VOCAB, (3, 9)), torch.randint(3, VOCAB, (3, 6))
    mask = torch.ones_like(source)
    mask[1, 5:] = mask[2, 2:] = 0
    expected = theirs(source, mask, target)
    found = ours.eval()(input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    gradients = renamed({name: parameter.grad for name, parameter in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-9, atol=1e-9)
