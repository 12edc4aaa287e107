"""What can be made to go wrong at a request of a test."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

FOREVER = math.inf


@dataclass
class Fault:
    """What happens to the requests that `on` matches, once `after` of them have passed, to the next `times` of them.

    `on` is searched in "METHOD /path?query". In this order:

    - the request's body is read: none of it if `cut="before"`, half of it if `cut="request"`;
    - `call` is called, for instance to kill the client;
    - `delay` seconds pass;
    - these two cuts hang up;
    - `status` is answered and nothing is done, with `headers` and `body` (JSON that names the status by default);
    - otherwise the request is carried out, and `cut="applied"` hangs up without an answer, `"answer"` after half of it.

    `fired` counts the requests that it has met.
    """

    on: str = ""
    after: int = 0
    times: float = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: Literal["before", "request", "applied", "answer"] | None = None
    delay: float = 0
    call: Callable[[], object] | None = None
    seen: int = 0
    fired: int = 0

    def meets(self, request: str) -> bool:
        """Whether it befalls this request, which is counted."""
        if not re.search(self.on, request):
            return False
        self.seen += 1
        meets = self.after < self.seen <= self.after + self.times
        self.fired += meets
        return meets
