"""What users write for one call, checked before anything is sent."""

from __future__ import annotations

import pytest

from mesh.api.options import HEADERS_BYTES_MAX, checked_headers
from mesh.errors import ConfigError, PayloadTooLarge


def test_headers_that_no_message_could_carry_are_refused_by_name() -> None:
    assert checked_headers({"trace": "x" * 10_000}) == {"trace": "x" * 10_000}
    with pytest.raises(PayloadTooLarge, match=f"headers of .* at most {HEADERS_BYTES_MAX}"):
        checked_headers({f"h{i}": "錯" * 10_000 for i in range(100)})
    with pytest.raises(ConfigError, match="headers"):
        checked_headers({"\ud800": "x"})
