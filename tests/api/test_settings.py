"""What users may set, checked before a node uses it."""

from __future__ import annotations

import pytest

from mesh import ConfigError, Mesh
from mesh.settings import INLINE_BYTES_MOST, Settings


def test_no_payload_inside_a_message_can_be_too_large_for_it() -> None:
    assert Settings(inline_bytes_max=INLINE_BYTES_MOST).inline_bytes_max == 512 << 10
    with pytest.raises(ConfigError, match=r"inline_bytes_max = 524289: at most 524288 bytes"):
        Mesh(inline_bytes_max=INLINE_BYTES_MOST + 1)
    with pytest.raises(ConfigError, match="inline_bytes_max"):
        Settings.from_environment({"MESH_INLINE_BYTES_MAX": "1000000"})


@pytest.mark.parametrize("router", ["tcp://a:1,tcp://b:2", "6374", ["good:1", "http://b:2"], ""])
def test_an_address_of_a_router_that_is_none_is_refused_where_it_is_written(router: str | list[str]) -> None:
    with pytest.raises(ConfigError, match="write host:port"):
        Mesh("tasks", router=router)
