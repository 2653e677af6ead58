"""The hook of Ray Serve that service/ray_app.py builds on and nothing promises; read in Ray 2.60."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="NOT TESTED: Ray is not installed (make ray-test)")
HOOK = "__serve_build_asgi_app__"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, of pydantic
def test_an_ingress_without_an_application_asks_each_replica_for_it():
    import ray
    from ray import serve

    cure = "read serve.ingress in Ray's source, mend service/ray_app.py, then write the release here"
    assert ray.__version__.startswith("2.60."), cure
    serve.ingress()(type("Replica", (), {HOOK: lambda _: None}))
    with pytest.raises(ValueError, match=HOOK):
        serve.ingress()(type("Replica", (), {}))
