"""Is there a key, is it private, and is it the one it should be? Pure."""

from __future__ import annotations

from nodes.doctor.facts import KeyFacts
from nodes.doctor.findings import Finding, failure, ok


def judge(key: KeyFacts, expected: str | None) -> list[Finding]:
    """``expected``: the key id that `mesh key` shows on another machine."""
    if key.problem:
        return [failure("key", key.problem)]
    whose = f" (a {key.role}'s)" if key.role else ""
    if expected is not None and expected != key.key_id:
        return [
            failure(
                "key",
                f"key {key.key_id}{whose} is here, in {key.place}, and {expected} is expected: "
                "this is the key of another mesh",
                "on the machine whose key is right, type `mesh key show --secret`; here, `mesh join --force KEY`",
            )
        ]
    as_expected = ", as expected" if expected else ""
    private = ", which its user alone can read" if key.is_file else ""
    return [ok("key", f"key {key.key_id}{whose} in {key.place}{private}{as_expected}")]
