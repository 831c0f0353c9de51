"""Probing: a yes where it works, a useful no where it does not."""

from __future__ import annotations

import errno
import os

import pytest

from iovisor.kernel import Feature, FeatureMissing, KernelError, available, features, require

pytestmark = pytest.mark.root

RELEASE = tuple(int(part) for part in os.uname().release.split(".")[:2])


@pytest.mark.parametrize("feature", list(Feature), ids=lambda feature: feature.name)
def test_what_works_was_there_by_then(feature: Feature) -> None:
    since = tuple(int(part) for part in feature.since.split("."))
    if available(feature):
        # A distribution may carry features back, but none of these by more than this.
        assert since <= (RELEASE[0] + 1, RELEASE[1])
        require(feature)
    else:
        with pytest.raises(FeatureMissing, match=feature.since):
            require(feature)


def test_an_unknown_helper_is_not_there() -> None:
    assert not features._knows(99999)
    assert features._knows(1)


def test_a_missing_feature_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "available", lambda feature: feature is not Feature.TCX)
    with pytest.raises(FeatureMissing, match=r"'tcx links'.*needs Linux 6\.6") as missing:
        require(Feature.XDP, Feature.TCX)
    assert isinstance(missing.value, KernelError)
    assert (missing.value.errno, missing.value.since) == (errno.EOPNOTSUPP, "6.6")
