"""What `import trivium` makes known to transformers."""

import json
import subprocess
import sys

import pytest
import transformers
from transformers import AutoConfig

import trivium
from trivium.modeling import AUTO_CLASSES
from trivium.registration import register

CONFIGS = [trivium.TriviumEncoderConfig, trivium.TriviumDecoderConfig, trivium.TriviumEncoderDecoderConfig]
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 64}

HEADS = {
    "TriviumEncoder": {
        "Model": "AutoModel",
        "ForMaskedLM": "AutoModelForMaskedLM",
        "ForPreTraining": "AutoModelForPreTraining",
        "ForSequenceClassification": "AutoModelForSequenceClassification",
        "ForTokenClassification": "AutoModelForTokenClassification",
        "ForQuestionAnswering": "AutoModelForQuestionAnswering",
        "ForMultipleChoice": "AutoModelForMultipleChoice",
        "ForNextSentencePrediction": "AutoModelForNextSentencePrediction",
    },
    "TriviumDecoder": {
        "Model": "AutoModel",
        "ForCausalLM": "AutoModelForCausalLM",
        "ForSequenceClassification": "AutoModelForSequenceClassification",
        "ForTokenClassification": "AutoModelForTokenClassification",
        "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    },
    "TriviumEncoderDecoder": {
        "Model": "AutoModel",
        "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
        "ForSequenceClassification": "AutoModelForSequenceClassification",
        "ForTokenClassification": "AutoModelForTokenClassification",
        "ForQuestionAnswering": "AutoModelForQuestionAnswering",
    },
}
MODELS = [(family, head, auto) for family, heads in HEADS.items() for head, auto in heads.items()]


@pytest.mark.parametrize(("family", "head", "auto"), MODELS)
def test_the_auto_class_builds_our_model(family, head, auto):
    config = getattr(trivium, f"{family}Config")(**TINY)
    model = getattr(transformers, auto).from_config(config)
    assert type(model) is getattr(trivium, family + head)


@pytest.mark.parametrize("model", sorted({model for models in AUTO_CLASSES.values() for model in models}, key=str))
def test_every_model_is_found_by_its_architecture_name(model):
    assert getattr(transformers, model.__name__) is model
    assert getattr(trivium, model.__name__) is model
    assert model.__name__ in trivium.__all__


def test_whoever_imported_transformers_first_finds_the_models_too():
    """transformers replaces its own module while it loads; TRL and vLLM may hold either of the two."""
    code = (
        "import transformers as first\nfrom transformers import ProcessorMixin\n"
        "import trivium\nimport transformers as last\n"
        "assert first.TriviumDecoderForCausalLM is last.TriviumDecoderForCausalLM is trivium.TriviumDecoderForCausalLM"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_no_model_is_left_out_of_the_auto_classes():
    registered = {model.__name__ for models in AUTO_CLASSES.values() for model in models}
    assert registered == {family + head for family, head, _ in MODELS}


@pytest.mark.parametrize("config_class", CONFIGS)
def test_autoconfig_reads_what_was_saved(config_class, tmp_path):
    config = config_class(**TINY)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == config_class.model_type
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is config_class
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()


def test_registering_twice_changes_nothing():
    register()
    config = trivium.TriviumDecoderConfig(**TINY)
    assert type(transformers.AutoModel.from_config(config)) is trivium.TriviumDecoderModel


def test_everything_public_exists():
    assert all(hasattr(trivium, name) for name in trivium.__all__)


def test_what_few_need_is_imported_when_it_is_asked_for():
    """`import trivium` is what every program pays that loads a checkpoint."""
    code = (
        "import sys, trivium; early = {*sys.modules}; trivium.from_transformers, trivium.to_transformers\n"
        "print(*sorted(early & {'trivium.modeling.conversion', 'datasets', 'peft'}))\n"
        "assert 'trivium.modeling.conversion' in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
    with pytest.raises(AttributeError, match="'trivium' has no attribute 'nothing'"):
        _ = trivium.nothing
