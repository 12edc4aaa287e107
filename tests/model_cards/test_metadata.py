import pytest

from trivium.configuration import InputError
from trivium.model_cards.metadata import check_metadata

GOOD = {
    "license": "mit",
    "language": ["en", "nds"],
    "library_name": "transformers",
    "pipeline_tag": "fill-mask",
    "tags": ["trivium"],
    "base_model": "org/base",
    "base_model_relation": "finetune",
    "datasets": ["org/texts", "squad"],
    "co2_eq_emissions": {"emissions": 1.5, "source": "codecarbon"},
    "model-index": [
        {
            "name": "mine",
            "results": [
                {
                    "task": {"type": "fill-mask"},
                    "dataset": {"name": "texts", "type": "org/texts", "split": "held out"},
                    "metrics": [{"type": "bits_per_byte", "value": 1.5, "name": "bits per byte"}],
                }
            ],
        }
    ],
}


def test_what_is_right_passes():
    check_metadata(GOOD)
    check_metadata({"library_name": "transformers"})
    check_metadata(GOOD | {"license": "other", "license_name": "mine", "license_link": "LICENSE"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"license": "MIT"}, "did you mean 'mit'"),
        ({"language": ["en", "english"]}, "did you mean 'en'"),
        ({"pipeline_tag": "mask-fill"}, "is no task"),
        ({"library_name": "trivium"}, "must be transformers"),
        ({"tags": "trivium"}, "must be a list"),
        ({"base_model": "../base"}, "no name on the Hub"),
        ({"base_model": None}, "name that too"),
        ({"base_model_relation": "distilled"}, "no relation"),
        ({"datasets": ["a/b/c"]}, "no name on the Hub"),
        ({"license": "other"}, "license_name"),
        ({"license_name": "x"}, "for the license 'other'"),
        ({"co2_eq_emissions": 3}, "in grams"),
        ({"co2_eq_emissions": {"emissions": -1}}, "in grams"),
        ({"co2_eq_emissions": {"emissions": True}}, "in grams"),
        ({"co2_eq_emissions": {"emissions": 1.0, "kg": 1}}, "no field 'kg'"),
        ({"model-index": [{"name": "x"}]}, "model-index"),
        ({"model-index": [{"name": "x", "results": [{"task": {"type": "x"}}]}]}, "model-index"),
        (
            {"model-index": [{"name": "x", "results": [{**GOOD["model-index"][0]["results"][0], "more": 1}]}]},
            "model-index",
        ),
    ],
)
def test_what_is_wrong_gets_one_sentence(change, said):
    data = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(InputError) as caught:
        check_metadata(data)
    assert said in str(caught.value)
