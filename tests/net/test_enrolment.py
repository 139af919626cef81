"""The file of the nodes that have keys of their own."""

from __future__ import annotations

import os
import stat

import pytest

from mesh.errors import ConfigError
from mesh.model import Role
from mesh.net.enrolment import (
    NODES_MAX,
    EnrolledNode,
    EnrolmentFile,
    enroll,
    enrolment_path,
    make_node,
    read_nodes,
    revoke,
)
from mesh.net.keys import new_key, new_role_key, node_key_text


@pytest.fixture
def path(tmp_path):
    return enrolment_path("lab", {"XDG_CONFIG_HOME": str(tmp_path)})


def some_node(name="w1", role=Role.WORKER):
    return EnrolledNode(name, role, new_role_key(role, new_key().router).own.public)


def test_what_is_enrolled_is_read_back_from_a_private_file(path):
    one, two = some_node(), some_node("c@host.x", Role.CLIENT)
    enroll(path, one)
    enroll(path, two)
    enroll(path, one)
    assert read_nodes(path) == [one, two]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["lab.authorized_nodes"]
    assert revoke(path, "w1") == ["w1"]
    assert read_nodes(path) == [two]
    with pytest.raises(ConfigError, match="no node 'w1'"):
        revoke(path, "w1")


def test_a_name_gets_another_key_only_by_force(path):
    one, two = some_node(), some_node()
    enroll(path, one)
    with pytest.raises(ConfigError, match="--force"):
        enroll(path, two)
    enroll(path, two, replace=True)
    assert read_nodes(path) == [two]


def test_a_key_that_another_node_has_is_refused_with_the_name_of_that(path):
    one = some_node("w1")
    enroll(path, one)
    for replace in (False, True):
        with pytest.raises(ConfigError, match="the key of node w1"):
            enroll(path, EnrolledNode("w2", Role.WORKER, one.public), replace=replace)
    assert read_nodes(path) == [one]


def test_a_node_is_revoked_from_a_list_that_is_damaged_with_whoever_has_its_key(path):
    one, two = some_node("w1"), some_node("w3")
    enroll(path, one)
    enroll(path, two)
    with path.open("a") as file:
        file.write(f"w2 worker {node_key_text(one.public)}\n# w1 worker of old\n")
    with pytest.raises(ConfigError, match=r"line 4: this key, as that of w1, stands there already: delete one"):
        read_nodes(path)
    assert revoke(path, "w1") == ["w1", "w2"]
    assert read_nodes(path) == [two] and "# w1 worker of old" in path.read_text()


def test_whoever_revokes_a_node_is_told_where_routers_cannot_read_the_rest(path):
    enroll(path, some_node("w1"))
    with path.open("a") as file:
        file.write("w2 worker\n")
    with pytest.raises(ConfigError, match=r"w1 is off the list, but .* line 2: a line has"):
        revoke(path, "w1")
    assert path.read_text().splitlines()[1:] == ["w2 worker"]


@pytest.mark.parametrize("mode", [0o640, 0o602, 0o622])
def test_a_file_that_others_may_see_or_change_is_refused(path, mode):
    enroll(path, some_node())
    path.chmod(mode)
    for use in (read_nodes, EnrolmentFile, lambda path: enroll(path, some_node("w2"))):
        with pytest.raises(ConfigError, match="chmod 600"):
            use(path)


def test_a_file_of_another_user_is_refused(path, monkeypatch):
    enroll(path, some_node())
    monkeypatch.setattr("os.getuid", lambda: 4242)
    with pytest.raises(ConfigError, match="belongs to user"):
        read_nodes(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("w2", "a line has"),
        ("w2 router KEY", "it is worker or client"),
        ("w2 admin KEY", "it is worker or client"),
        ("w/2 worker KEY", "node name"),
        ("w2 worker mesh1-node:abc:def", "incomplete"),
        ("w2 worker hello", "no node's public key"),
        ("w1 worker KEY", "stands there already"),
        ("w2 worker OTHER", "stands there already"),
    ],
)
def test_a_line_that_is_wrong_is_named(path, line, says):
    one, two = some_node(), some_node()
    enroll(path, one)
    line = line.replace("KEY", node_key_text(two.public)).replace("OTHER", node_key_text(one.public))
    with path.open("a") as file:
        file.write(f"\n  # a remark\n{line}\n")
    with pytest.raises(ConfigError, match=rf"line 5: .*{says}"):
        read_nodes(path)


def test_a_file_without_end_is_not_read(path):
    enroll(path, some_node())
    with path.open("a") as file:
        file.write("#" * (NODES_MAX * 256))
    with pytest.raises(ConfigError, match="more than"):
        read_nodes(path)


def test_a_router_sees_each_change_once_and_keeps_what_it_has_where_the_new_one_is_wrong(path):
    watched = EnrolmentFile(path)
    assert watched.nodes == [] and not watched.changed()
    one = some_node()
    enroll(path, one)
    assert watched.changed() and watched.nodes == [one]
    assert not watched.changed()
    path.write_text("nonsense\n")
    with pytest.raises(ConfigError, match="line 1"):
        watched.changed()
    assert not watched.changed() and watched.nodes == [one]
    path.unlink()
    assert watched.changed() and watched.nodes == []


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "ü"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="node name"):
        make_node(name, "worker", node_key_text(some_node().public))
