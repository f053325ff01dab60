"""What people's libraries did in a template does not spoil its forks; where it would, the template says so.

Each in a process of its own, with the real library; those that are not installed are skipped (`pip install '.[ml-tests]'`).
"""

from __future__ import annotations

import importlib.util
import sys
from textwrap import dedent
from typing import Any

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="templates are Linux's"),
]

RunTemplate = Any

PARALLEL = {
    "torch": """
        import torch
        layer = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 30 * 30, 4))
        image = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32).repeat(16, 1, 1, 1)
        def work():
            layer.zero_grad()
            layer(image).sum().backward()
            weights = torch.arange(360_000, dtype=torch.float64).reshape(600, 600) % 7
            return [round(float(layer[0].weight.grad.double().sum()), 1), float((weights @ weights).sum())]
    """,
    "torch, its second pool": """
        import torch
        torch.set_num_threads(3)
        torch.backends.quantized.engine = "qnnpack"
        layer = torch.nn.Sequential(torch.nn.Linear(256, 256))
        torch.nn.init.ones_(layer[0].weight)
        layer = torch.ao.quantization.quantize_dynamic(layer, {torch.nn.Linear}, torch.qint8)
        rows = torch.linspace(-1, 1, 1024 * 256).reshape(1024, 256)
        def work():
            return round(float(layer(rows).abs().sum()), 0)
    """,
    "numpy": """
        import numpy
        def work():
            weights = numpy.arange(360_000, dtype=float).reshape(600, 600) % 7
            return [float((weights @ weights).sum()), round(float(numpy.linalg.norm(numpy.linalg.inv(weights[:80, :80] + 9 * numpy.eye(80)))), 6)]
    """,
    "sklearn": """
        import numpy, warnings
        from sklearn.cluster import KMeans
        from sklearn.ensemble import HistGradientBoostingClassifier
        x = numpy.random.RandomState(1).rand(2000, 4)
        y = x.sum(axis=1) > 2
        def work():
            trees = HistGradientBoostingClassifier(max_iter=5, random_state=1).fit(x, y)
            return [int(trees.predict(x).sum()), round(float(KMeans(3, n_init=1, random_state=1).fit(x).inertia_), 3)]
    """,
    "numexpr": """
        import numexpr, numpy
        def work():
            numbers = numpy.arange(1_000_000)
            return int(numexpr.evaluate("numbers * 2 + 1").sum())
    """,
    "tokenizers": """
        from tokenizers import Tokenizer, models, pre_tokenizers
        tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        def work():
            return [each.ids for each in tokenizer.encode_batch(["a b", "b c"] * 200)][-1]
    """,
}

USED = {
    "polars": """
        import polars
        polars.DataFrame({"a": [1, 2]}).lazy().group_by("a").sum().collect()
    """,
    "jax": """
        import jax.numpy
        jax.numpy.ones(3).sum().block_until_ready()
    """,
    "numba": """
        import numba, numpy
        @numba.njit(parallel=True)
        def double(x):
            for i in numba.prange(len(x)):
                x[i] *= 2
        double(numpy.ones(1000))
    """,
}


def need(*names: str) -> None:
    """Skip where a package is missing, and import nothing."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("library", PARALLEL)
def test_a_parallel_region_run_in_the_template_is_right_in_a_hundred_forks(
    library: str, run_template: RunTemplate
) -> None:
    need(library.split(",")[0])

    unsafe, expected, found = run_template(f"""
preset = prepare(2.0)
{dedent(PARALLEL[library])}
expected = work()
frozen = freeze(preset)
report([frozen.unsafe, expected, forks(50, work, frozen, 2.0) + forks(50, work, frozen, 1.0)])
""")

    assert unsafe == ""
    assert found == [expected] * 100


@pytest.mark.parametrize("library", USED)
def test_what_no_fork_can_use_is_refused_with_the_reason(library: str, run_template: RunTemplate) -> None:
    need(library)

    unsafe = run_template(f"preset = prepare(2.0)\n{dedent(USED[library])}\nreport(freeze(preset).unsafe)")

    assert unsafe.startswith((f"{library} has started ", f"{library} has compiled or run"))
    assert "in @enter() or in the function instead" in unsafe


def test_polars_that_is_only_imported_is_right_in_every_fork(run_template: RunTemplate) -> None:
    need("polars")

    found = run_template("""
        preset = prepare()
        import polars
        def work():
            frame = polars.DataFrame({"a": [1, 2, 1] * 1000, "b": list(range(3000))})
            return frame.lazy().group_by("a").agg(polars.col("b").sum()).collect()["b"].sum()
        report(forks(20, work, freeze(preset)))
    """)

    assert found == [sum(range(3000))] * 20


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("preset", [1.0, 2.0])
def test_a_matmul_has_as_many_threads_as_the_fork_has_cpus(
    width: int, preset: float, run_template: RunTemplate
) -> None:
    """Told before the import or after the fork."""
    need("numpy")

    (blas, threads) = run_template(f"""
        preset = prepare({preset})
        import numpy
        def work():
            weights = numpy.ones((600, 600))
            weights @ weights
            return [[pool.get() for pool in native.find_pools(libraries(read_maps()))], threads.other_threads() != []]
        report(forks(1, work, freeze(preset), {width}.0)[0])
    """)

    assert blas == [width]
    assert threads or width == 1


@pytest.mark.parametrize("width", [1, 2])
def test_torch_has_as_many_threads_as_the_fork_has_cpus_in_every_thread(width: int, run_template: RunTemplate) -> None:
    need("torch")

    main, other, others = run_template(f"""
        preset = prepare(2.0)
        import threading, torch
        def work():
            counts = [torch.get_num_threads()]
            thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            torch.ones(600, 600) @ torch.ones(600, 600)
            return [*counts, len(threads.other_threads())]
        work()
        report(forks(1, work, freeze(preset), {width}.0)[0])
    """)

    assert (main, other) == (width, width)
    assert others > 0 or width == 1


def test_a_count_that_the_user_chose_is_left(run_template: RunTemplate) -> None:
    need("torch", "threadpoolctl")

    found = run_template("""
        preset = prepare(2.0)
        import threadpoolctl, torch
        torch.set_num_threads(3)
        import numpy
        threadpoolctl.threadpool_limits(1, "blas")
        frozen = freeze(preset)
        def work():
            return [torch.get_num_threads(), [each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]]
        report([frozen.unsafe, *forks(1, work, frozen, 2.0)])
    """)

    assert found == ["", [3, [1]]]


def test_each_fork_draws_its_own_from_numpy_and_torch(run_template: RunTemplate) -> None:
    need("numpy", "torch")

    drawn = run_template("""
        preset = prepare()
        import numpy, torch
        numpy.random.seed(1)
        torch.manual_seed(1)
        numpy.random.randn()  # makes two, and keeps one
        generator = numpy.random.default_rng()
        legacy = numpy.random.Generator(numpy.random.MT19937())
        def draw():
            return [
                numpy.random.random(),
                numpy.random.randn(),
                torch.rand(1).item(),
                torch.randn(1).item(),
                generator.random(),
                legacy.random(),
            ]
        report(forks(20, draw, freeze(preset)))
    """)

    assert [len(set(column)) for column in zip(*drawn, strict=True)] == [20] * 6


def test_another_bit_generator_of_numpys_is_seeded_as_well(run_template: RunTemplate) -> None:
    need("numpy")

    drawn = run_template("""
        preset = prepare()
        import numpy
        numpy.random.set_bit_generator(numpy.random.PCG64(1))
        report(forks(5, numpy.random.random, freeze(preset)))
    """)

    assert len(set(drawn)) == 5


def test_a_generator_with_a_seed_of_the_users_keeps_it(run_template: RunTemplate) -> None:
    need("numpy")

    drawn = run_template("""
        preset = prepare()
        import numpy
        generator = numpy.random.default_rng(42)
        report(forks(3, generator.random, freeze(preset)) + [numpy.random.default_rng(42).random()])
    """)

    assert len(set(drawn)) == 1


def test_a_seed_that_waits_for_a_gpu_is_each_forks_own(run_template: RunTemplate) -> None:
    need("torch")

    seeds = run_template("""
        preset = prepare()
        import torch
        torch.manual_seed(1)
        def waiting():
            calls = [call for call, _ in filter(None, torch.cuda._lazy_seed_tracker.get_calls())]
            return [dict(zip(call.__code__.co_freevars, (cell.cell_contents for cell in call.__closure__)))["seed"] for call in calls]
        report([waiting(), *forks(5, waiting, freeze(preset))])
    """)

    assert seeds[0] == [1]
    assert len({seed for (seed,) in seeds}) == 6
