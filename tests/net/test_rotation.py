"""Two mesh keys at once: the files, and real sockets."""

from __future__ import annotations

import stat

import pytest

from mesh.errors import ConfigError, NoKey
from mesh.model import Role
from mesh.net.keys import key_path, load, load_or_create, new_key, save
from mesh.net.rotation import finish, live_keys, old_key_path, rotate


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CONFIG_HOME": str(tmp_path)}


@pytest.fixture
def path(environ):
    return key_path("lab", environ)


def test_a_rotation_keeps_the_old_key_beside_the_new_one_until_it_is_finished(environ, path):
    old = load_or_create("lab", environ)
    assert live_keys("lab", environ) == [old]
    assert rotate(path) == (old, load("lab", environ))
    new = load("lab", environ)
    assert new != old and live_keys("lab", environ) == [new, old]
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    with pytest.raises(ConfigError, match="--finish"):
        rotate(path)
    assert finish(path) == (old, new)
    assert live_keys("lab", environ) == [new]
    with pytest.raises(ConfigError, match="no rotation"):
        finish(path)


def test_a_rotation_that_a_crash_cut_short_goes_on(environ, path):
    old = load_or_create("lab", environ)
    save(old_key_path(path), old)
    assert live_keys("lab", environ) == [old]
    assert rotate(path)[0] == old
    assert len(live_keys("lab", environ)) == 2


def test_an_old_key_that_others_can_read_is_refused(environ, path):
    load_or_create("lab", environ)
    rotate(path)
    old_key_path(path).chmod(0o644)
    for use in (lambda: live_keys("lab", environ), lambda: rotate(path), lambda: finish(path)):
        with pytest.raises(ConfigError, match="chmod 600"):
            use()


def test_only_a_whole_key_is_rotated(environ, path):
    with pytest.raises(NoKey, match="no key to rotate"):
        rotate(path)
    save(path, new_key().export(Role.CLIENT))
    with pytest.raises(NoKey, match="whole key"):
        rotate(path)


def _joined(net, router, endpoint, key):
    dealer = net.dealer()
    peer = dealer.connect(endpoint, key, Role.WORKER)
    net.until(lambda: net.of(dealer).connected, dealer, router)
    return dealer, peer


def _talk(net, router, dealer, peer, text):
    assert dealer.send(peer, [text])
    net.until(lambda: [text] in [m[1] for m in net.of(router).messages], dealer, router)


def test_nodes_with_either_key_come_in_and_the_old_ones_are_cut_when_it_goes(net):
    old, new = net.key, new_key()
    router = net.router(key=old)
    at_old, at_new = router.endpoints[1], router.listen("tcp://127.0.0.1:*", new)
    one, one_peer = _joined(net, router, at_old, old)
    two, two_peer = _joined(net, router, at_new, new)
    _talk(net, router, one, one_peer, b"with the old")
    _talk(net, router, two, two_peer, b"with the new")
    assert router.facts().keys == {new.key_id: 1, old.key_id: 1}

    assert router.forget_key(old) == 1
    net.until(lambda: net.of(one).lost and net.of(router).lost, one, router)
    _talk(net, router, two, two_peer, b"undisturbed")
    assert not net.of(two).lost
    assert router.facts().keys == {new.key_id: 1}


def test_the_old_key_does_not_open_the_door_of_the_new_one(net):
    old, new = net.key, new_key()
    router = net.router(key=old)
    at_new = router.listen("tcp://127.0.0.1:*", new)
    stranger = net.dealer()
    stranger.connect(at_new, old, Role.WORKER)
    net.until(lambda: net.of(stranger).problems, stranger, router)
    assert "another mesh key" in net.of(stranger).problems[0].text


def test_a_node_that_gets_the_new_key_meanwhile_comes_in_again_by_itself(net):
    old, new = net.key, new_key()
    router = net.router(key=old)
    at = router.endpoints[1]
    router.listen("tcp://127.0.0.1:*", new)
    keys = [old]
    dealer, peer = _joined(net, router, at, lambda: keys[-1])
    _talk(net, router, dealer, peer, b"with the old")
    keys.append(new)
    router.forget_key(old)

    def listens():
        try:
            return router.listen(at, new)
        except ConfigError:
            return net.step(router)

    net.until(listens)
    net.until(lambda: len(net.of(dealer).connected) == 2, dealer, router, within_s=10)
    _talk(net, router, dealer, peer, b"with the new")
