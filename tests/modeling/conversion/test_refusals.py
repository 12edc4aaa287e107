"""What cannot be converted is refused in one sentence that says why."""

import json
import re

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoConfig

from tests.references import BART, BERT, GEMMA, GPT, LLAMA, REFERENCES, T5, TOKENS
from trivium import InputError, from_transformers, modeling, to_transformers
from trivium.modeling.conversion import convert

ELECTRA = dict(
    vocab_size=64,
    embedding_size=24,
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=40,
)
BLOOM, MODERNBERT, ROBERTA = (REFERENCES[name].fields for name in ("bloom", "modernbert", "roberta"))
HALF = dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5)
GEMMA2 = {name: value for name, value in GEMMA.items() if name != "attn_implementation"}
# Their class, its fields, and what is said of it.
UNSUPPORTED = [
    ("ElectraForMaskedLM", "electra", ELECTRA, "'electra' is no architecture of transformers that can be converted"),
    ("T5EncoderModel", "t5", T5, "T5EncoderModel has no counterpart here; of t5 there are T5Model, "),
    ("GPT2DoubleHeadsModel", "gpt2", GPT, "GPT2DoubleHeadsModel has no counterpart here"),
    ("BartForCausalLM", "bart", BART, "BartForCausalLM has no counterpart here"),
    ("BertModel", "bert", BERT | dict(is_decoder=True), "a BertModel with is_decoder=True"),
    ("BertLMHeadModel", "bert", BERT, "a BertLMHeadModel with is_decoder=False"),
    (
        "BertLMHeadModel",
        "bert",
        BERT | dict(is_decoder=True, add_cross_attention=True),
        "cross-attention in a BERT-like decoder (add_cross_attention=True)",
    ),
    ("RobertaModel", "roberta", ROBERTA | dict(is_decoder=True), "a RobertaModel with is_decoder=True"),
    ("RobertaModel", "roberta", ROBERTA | dict(pad_token_id=None), "a RoBERTa without a pad_token_id"),
    (
        "GPT2LMHeadModel",
        "gpt2",
        GPT | dict(scale_attn_by_inverse_layer_idx=True),
        "scores that are divided by the layer's number (scale_attn_by_inverse_layer_idx=True)",
    ),
    ("GPT2Model", "gpt2", GPT | dict(add_cross_attention=True), "cross-attention in GPT-2 (add_cross_attention=True)"),
    (
        "BloomForCausalLM",
        "bloom",
        BLOOM | dict(apply_residual_connection_post_layernorm=True),
        "residuals that start after the norm (apply_residual_connection_post_layernorm=True)",
    ),
    ("ModernBertForMaskedLM", "modernbert", MODERNBERT | dict(classifier_bias=True), "unlike the feed-forward"),
    ("ModernBertModel", "modernbert", MODERNBERT | dict(classifier_activation="relu"), "unlike the feed-forward"),
    ("Gemma2Model", "gemma2", GEMMA2 | dict(use_bidirectional_attention=True), "a decoder that sees what follows"),
    (
        "LlamaForCausalLM",
        "llama",
        LLAMA | dict(rope_parameters=HALF),
        "LlamaForCausalLM takes no notice of `partial_rotary_factor`, but Trivium does: leave it out.",
    ),
]


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "folder"])
@pytest.mark.parametrize(
    ("name", "model_type", "fields", "sentence"), UNSUPPORTED, ids=[f"{case[0]}-{case[3][:20]}" for case in UNSUPPORTED]
)
def test_what_we_do_not_compute_is_named(name, model_type, fields, sentence, stored, tmp_path):
    theirs = getattr(transformers, name)(AutoConfig.for_model(model_type, **TOKENS | fields))
    if stored:
        theirs.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        from_transformers(tmp_path if stored else theirs)
    assert "\n" not in str(refused.value)


def test_a_stack_without_its_pooler_is_refused_by_name():
    theirs = transformers.BertModel(REFERENCES["bert"].config("BertModel"), add_pooling_layer=False)
    with pytest.raises(InputError, match=r"there is nothing for pooler\.dense\.weight, pooler\.dense\.bias\."):
        from_transformers(theirs)


def test_embeddings_that_are_one_here_but_differ_there_are_refused():
    theirs = REFERENCES["bart"].model("BartModel")
    theirs.config.tie_word_embeddings = False
    theirs.encoder.embed_tokens = nn.Embedding(64, 24)
    with pytest.raises(InputError, match=r"'encoder\.embed_tokens\.weight' is one with another weight in a bart"):
        from_transformers(theirs)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "a NoneType is no model of transformers, no folder and no Hub name."),
        (nn.Linear(2, 2), "a Linear is no model of transformers, no folder and no Hub name."),
        ("/not/there", "'/not/there' does not exist, and it cannot be a name on the Hub."),
        (__file__, f"'{__file__}' is a file: give the folder that it lies in (and `gguf_file`, if it is one)."),
    ],
    ids=["None", "module", "path", "file"],
)
def test_a_source_of_the_wrong_kind_is_named(source, sentence):
    with pytest.raises(InputError) as refused:
        from_transformers(source)
    assert str(refused.value) == sentence


def test_a_name_on_the_hub_that_is_not_at_hand_is_refused():
    with pytest.raises(InputError, match="'somebody/something' cannot be read by transformers: We couldn't connect"):
        from_transformers("somebody/something")


def test_a_model_goes_only_the_way_that_there_is():
    theirs = REFERENCES["gpt2"].model("GPT2LMHeadModel")
    ours = from_transformers(theirs)
    with pytest.raises(InputError, match="a TriviumDecoderForCausalLM is a model of Trivium already"):
        from_transformers(ours)
    with pytest.raises(InputError, match="a GPT2LMHeadModel is no model of Trivium"):
        to_transformers(theirs)
    for wanted, name in ((modeling.TriviumEncoderModel, "TriviumEncoderModel"), ("base", "'base'")):
        with pytest.raises(InputError, match=f"gpt2 has nothing that would become a {name}"):
            from_transformers(theirs, wanted)


def written(folder, name: str, text: str | bytes | None):
    """A checkpoint of BERT with one file changed or, with `None`, gone."""
    REFERENCES["bert"].model("BertForMaskedLM").save_pretrained(folder)
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)


def config_with(**changes) -> str:
    """The configuration of that checkpoint with fields changed or, with `...`, gone."""
    fields = REFERENCES["bert"].config("BertForMaskedLM").to_dict() | dict(architectures=["BertForMaskedLM"]) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...})


BROKEN = {
    "no configuration": ("config.json", None, "cannot be read by transformers: Unrecognized model"),
    "half a configuration": ("config.json", "{", "cannot be read by transformers: .* not a valid JSON file"),
    "no model type": ("config.json", config_with(model_type=...), "Should have a `model_type` key"),
    "a strange model type": ("config.json", config_with(model_type="wonder"), "model type `wonder`"),
    "a width in words": ("config.json", config_with(hidden_size="wide"), "'hidden_size' expected int, got str"),
    "a strange activation": ("config.json", config_with(hidden_act="wobble"), "cannot be loaded as .*: KeyError 'wob"),
    "a strange class": ("config.json", config_with(architectures=["Bert4You"]), "Bert4You has no counterpart here"),
    "no class": ("config.json", config_with(architectures=...), "names no model class .* say which head you want"),
    "code of its own": ("config.json", config_with(model_type="own", auto_map={"AutoConfig": "a.B"}), "custom code"),
    "no weights": ("model.safetensors", None, "cannot be loaded as BertForMaskedLM: .* no file named"),
    "other bytes": ("model.safetensors", b"hello", "cannot be loaded as BertForMaskedLM: SafetensorError"),
    "another dtype": ("config.json", config_with(dtype="float31"), "cannot be"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused_in_one_line(case, tmp_path):
    file, text, sentence = BROKEN[case]
    written(tmp_path, file, text)
    with pytest.raises(InputError, match=sentence) as refused:
        from_transformers(tmp_path)
    assert str(tmp_path) in str(refused.value) or case == "a strange class"
    assert "\n" not in str(refused.value)


def test_half_a_file_of_weights_is_refused(tmp_path):
    written(tmp_path, "other.txt", "")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be loaded as BertForMaskedLM: SafetensorError"):
        from_transformers(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    REFERENCES["llama"].model("LlamaForCausalLM").save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(InputError, match=shard.name):
        from_transformers(tmp_path)


def test_a_torch_file_of_weights_is_read(tmp_path):
    theirs = REFERENCES["bert"].model("BertForMaskedLM")
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    expected = from_transformers(theirs).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in from_transformers(tmp_path).state_dict().items())


def test_an_adapter_is_to_be_merged_first(tmp_path):
    peft = pytest.importorskip("peft")
    theirs = REFERENCES["llama"].model("LlamaForCausalLM")
    expected = theirs(torch.tensor([[5, 6, 7]])).logits
    adapted = peft.get_peft_model(theirs, peft.LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="holds an adapter: merge it into its model"):
        from_transformers(tmp_path)
    with pytest.raises(InputError, match="PeftModel is no model of transformers"):
        from_transformers(adapted)
    ours = from_transformers(adapted.merge_and_unload())
    assert torch.allclose(ours(torch.tensor([[5, 6, 7]])).logits, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "fields", "lost"),
    [
        ("llama", LLAMA | dict(pad_token_id=-1), {"pad_token_id": -1}),
        ("gpt2", GPT | dict(bos_token_id=50256, eos_token_id=50256), {"bos_token_id": 50256, "eos_token_id": 50256}),
        ("llama", LLAMA | dict(eos_token_id=[2, 64]), {"eos_token_id": [2, 64]}),
    ],
    ids=["-1", "beyond", "list"],
)
def test_tokens_that_no_vocabulary_has_are_none_and_noted(model_type, fields, lost):
    theirs = transformers.AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **TOKENS | fields))
    ours, report = convert(theirs)
    assert report.notes == [
        f"`{name}` {token} is no token of the vocabulary: left out." for name, token in lost.items()
    ]
    kept = {name: token for name, token in TOKENS.items() if name not in lost}
    assert {name: getattr(ours.config, name) for name in TOKENS} == kept | dict.fromkeys(lost)
    back = to_transformers(ours)
    assert {name: getattr(back.config, name) for name in TOKENS} == kept | dict.fromkeys(lost)
