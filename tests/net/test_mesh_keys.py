from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys

import pytest
from zmq.utils import z85

from mesh.errors import ConfigError, NoKey
from mesh.model import Role
from mesh.net.keys import (
    MeshKey,
    key_path,
    load,
    load_or_create,
    new_key,
    new_role_key,
    parse_key,
    parse_router_key,
    save,
    whole_key,
)

ROOT = bytes(range(32))
GOLDEN_TEXT = "mesh1:aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq:cr6kpvqq"
GOLDEN_ID = "05471573"
GOLDEN_CLIENT = (
    "mesh1-client:avdrk47e6mimfdhq5qu6z4mec2n6nbt4wqt3suw7con26vipqe6tokxabxsttccugky66hpe7cvfn"
    "paobee3haib24lafhhrur3btgmwla7ni:l6pgdasr"
)
GOLDEN_ROUTER = b"<NS@1Jpuf.)d2-AO92DMV)SyZ?XhG.rs:Tzh.9.{"


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_the_text_form_reads_back():
    key = new_key()
    assert parse_key(f" {key.text}\n") == key


def test_nothing_derived_from_a_key_ever_changes():
    key = MeshKey(ROOT)
    assert key.text == GOLDEN_TEXT
    assert key.key_id == GOLDEN_ID
    assert key.export(Role.CLIENT).text == GOLDEN_CLIENT
    assert key.role(Role.ROUTER).public == GOLDEN_ROUTER


@pytest.mark.parametrize("role", [Role.CLIENT, Role.WORKER])
def test_what_is_exported_for_a_role_reads_back_and_holds_no_other_secret(role):
    key = MeshKey(ROOT)
    exported = key.export(role)
    assert parse_key(f" {exported.text}\n") == exported
    assert exported.text.startswith(f"mesh1-{role}:")
    assert exported.key_id == key.key_id
    assert exported.entry(role).own == key.role(role)
    assert exported.entry(role).router == key.role(Role.ROUTER).public
    held = base64.b32decode(exported.text.split(":")[1].upper() + "===")
    assert key.root not in held
    for other in set(Role) - {role}:
        assert z85.decode(key.role(other).secret) not in held
        with pytest.raises(NoKey, match="is not the whole key" if other is Role.ADMIN else f"makes no {other}"):
            exported.entry(other)
    with pytest.raises(NoKey, match="takes the whole key"):
        whole_key(exported, "to listen")


def test_the_whole_key_makes_every_role_and_a_client_that_may_do_all():
    key = new_key()
    assert key.entry(Role.WORKER).own == key.role(Role.WORKER)
    assert key.entry(Role.CLIENT).own == key.role(Role.ADMIN)


def test_the_public_key_of_routers_reads_back_and_is_no_key_to_join_with():
    router = MeshKey(ROOT).router
    assert parse_router_key(router.text) == router
    with pytest.raises(ConfigError, match="not a mesh key"):
        parse_key(router.text)
    with pytest.raises(ConfigError, match="no router's public key"):
        parse_router_key(MeshKey(ROOT).text)


def test_a_key_that_a_node_makes_for_itself_is_its_own():
    router = MeshKey(ROOT).router
    one, two = new_role_key(Role.WORKER, router), new_role_key(Role.WORKER, router)
    assert one.own != two.own and one.key_id == GOLDEN_ID
    assert parse_key(one.text) == one
    assert one.own.secret.decode() not in repr(one)


def test_each_role_has_a_pair_of_its_own():
    assert len({new_key().role(role).public for role in Role} | {MeshKey(ROOT).role(role).secret for role in Role}) == 8


def test_a_key_does_not_show_itself():
    key = new_key()
    assert key.text[6:20] not in repr(key)
    assert key.root.hex() not in repr(key)
    assert key.role(Role.WORKER).secret.decode() not in repr(key.role(Role.WORKER))


@pytest.mark.parametrize(
    "spoil",
    [lambda t: t[:-1], lambda t: t[1:], lambda t: t[:30] + "a" + t[29] + t[31:], lambda t: "", lambda t: t + "0"],
)
def test_a_damaged_text_is_refused_and_not_repeated(spoil):
    for key in (MeshKey(ROOT), MeshKey(ROOT).export(Role.CLIENT)):
        with pytest.raises(ConfigError) as caught:
            parse_key(spoil(key.text))
        assert "audaocaj" not in str(caught.value) and key.text[20:40] not in str(caught.value)


def test_a_key_of_one_role_cannot_be_written_as_another():
    with pytest.raises(ConfigError, match="wrong letter"):
        parse_key(MeshKey(ROOT).export(Role.CLIENT).text.replace("client", "worker"))


def test_without_a_key_load_says_how_to_get_one(environ):
    with pytest.raises(NoKey, match="mesh join"):
        load("default", environ)


def test_a_created_key_is_private_and_found_again(environ):
    key = load_or_create("lab", environ)
    path = key_path("lab", environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load("lab", environ) == load_or_create("lab", environ) == key
    assert load_or_create("other", environ) != key
    assert sorted(p.name for p in path.parent.iterdir()) == ["lab.key", "other.key"]


def test_the_environment_wins_over_the_file(environ):
    load_or_create("lab", environ)
    key = new_key()
    environ["MESH_KEY"] = key.text
    assert load("lab", environ) == load_or_create("lab", environ) == key


def test_a_bad_key_of_the_environment_is_named(environ):
    environ["MESH_KEY"] = "hello"
    for read in (load, load_or_create):
        with pytest.raises(ConfigError, match="MESH_KEY: this is not a mesh key"):
            read("lab", environ)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_others_can_read_is_refused_with_the_command_that_helps(environ, mode):
    load_or_create("lab", environ)
    path = key_path("lab", environ)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        load("lab", environ)


def test_a_file_that_is_too_large_or_none_is_no_key(environ):
    path = key_path("lab", environ)
    path.parent.mkdir()
    path.touch(mode=0o600)
    path.write_text("x" * 2_000)
    with pytest.raises(ConfigError, match="more than"):
        load("lab", environ)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="is no file"):
        load("lab", environ)


def test_a_key_of_another_user_is_refused(environ, monkeypatch):
    load_or_create("lab", environ)
    monkeypatch.setattr("os.getuid", lambda: 4242)
    with pytest.raises(ConfigError, match="belongs to user"):
        load("lab", environ)


def test_a_damaged_file_is_named(environ):
    load_or_create("lab", environ)
    path = key_path("lab", environ)
    path.write_text("mesh1:half")
    with pytest.raises(ConfigError, match=str(path)):
        load("lab", environ)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", "x" * 65])
def test_a_mesh_name_that_is_no_file_name_is_refused(environ, name):
    with pytest.raises(ConfigError, match="mesh name"):
        load(name, environ)


def test_a_key_is_never_replaced(environ):
    first = load_or_create("lab", environ)
    assert save(key_path("lab", environ), new_key()) == first


@pytest.mark.processes
def test_processes_that_start_at_once_end_up_with_one_key(environ):
    code = (
        "import sys; from mesh.net.keys import load_or_create; sys.stdin.read();"
        "print(load_or_create('lab', {'XDG_CONFIG_HOME': sys.argv[1]}).text)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, environ["XDG_CONFIG_HOME"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for process in started:
        process.stdin.close()
    texts = set()
    for process in started:
        texts.add(process.stdout.read())
        process.stdout.close()
        assert process.wait(20) == 0
    assert texts == {load("lab", environ).text.encode() + b"\n"}
