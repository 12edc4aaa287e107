"""An estimate of the energy that a run takes and of the carbon dioxide that it causes, by codecarbon.

transformers has a callback for codecarbon too; it asks an outside service where the machine stands, and without an
answer takes it to stand in Canada. This one is told the country, and asks nobody.
"""

import difflib
import logging
import os
from typing import Any

from transformers import TrainerCallback

from ..configuration.errors import InputError

NOTE = (
    "an estimate: of the whole machine while it trained, from measured or assumed power and the average electricity of "
    "the country; without cooling, without making the machine"
)


class EmissionsCallback(TrainerCallback):
    """Measures from the beginning of training to its end, on the main process only; needs the extra `emissions`.

    Args:
        country: where the electricity comes from, a three-letter ISO code such as FRA.

    Attributes:
        record: `None` before training has ended and on other processes; then for the run's record:
            `co2_eq_emissions` as the cards of the Hub have it (`emissions` in grams), `energy_kwh`, `seconds`,
            `country`, `steps` (from and to, if a run was resumed) and a `note` on what the numbers mean.

    Raises:
        InputError: no such country, or one whose electricity is not known.
    """

    def __init__(self, country: str):
        self.country = check_country(country)
        self.record: dict[str, Any] | None = None
        self._tracker: Any = None
        self._first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begins to measure."""
        if not state.is_world_process_zero:
            return
        from codecarbon import OfflineEmissionsTracker

        self._first_step = state.global_step
        self._tracker = OfflineEmissionsTracker(
            country_iso_code=self.country,
            output_methods=[],
            allow_multiple_runs=True,
            log_level="error",
        )
        self._tracker.start()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Makes the record."""
        if self._tracker is None:
            return
        self._tracker.stop()
        self.record = describe(self._tracker.final_emissions_data, machines=args.world_size // _per_machine(args))
        self.record["steps"] = [self._first_step, state.global_step]
        self._tracker = None


def check_country(country: str) -> str:
    """The code in capitals; raises `InputError` for one that codecarbon does not know."""
    from codecarbon.input import DataSource

    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    known = DataSource().get_global_energy_mix_data()
    code = str(country).upper()
    if code in known:
        return code
    by_name = {str(entry["country_name"]).upper(): iso for iso, entry in known.items()}
    nearest = difflib.get_close_matches(code, [*by_name, *known], n=1, cutoff=0.5)
    hint = f"did you mean {by_name.get(nearest[0], nearest[0])}?" if nearest else "for example FRA."
    raise InputError(f"'{country}' is no country known by its three-letter ISO code; {hint}")


def describe(data: Any, machines: int = 1) -> dict[str, Any]:
    """The record of [`EmissionsCallback`] from codecarbon's `EmissionsData`, which counts in kilograms."""
    gpus, processor = data.gpu_model, f"{data.cpu_model}, {data.cpu_count} cores"
    return {
        "co2_eq_emissions": {
            "emissions": data.emissions * 1000,
            "source": f"codecarbon {data.codecarbon_version}",
            "training_type": "pre-training",
            "geographical_location": data.country_name,
            "hardware_used": f"{gpus}; {processor}" if gpus else processor,
        },
        "energy_kwh": data.energy_consumed,
        "seconds": round(data.duration, 3),
        "country": data.country_iso_code,
        "note": NOTE + (f"; of one of {machines} machines" if machines > 1 else ""),
    }


def _per_machine(args: Any) -> int:
    """Processes on this machine, as launchers say it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", args.world_size))
