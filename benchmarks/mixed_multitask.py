"""Times the solver of mixed multi-task problems against plain FISTA, a general convex solver and the authors' package.

    python benchmarks/mixed_multitask.py [--rounds 3] [--core 0] [--full] [--cvxpy-full] [--small]

20 tasks (10 of classification), 500 features, 200 rows a task, 200 values of lambda down to a hundredth of the
largest, no intercept, no ridge. Contenders:

- plain FISTA: the steps of `reference.Reference`, with constant step size and warm starts, without screening, restart
  or Newton steps; its duality gap is computed every tenth step, as ours is. Rounds take every twentieth lambda, started
  from the solution before it, as ours does; --full adds one run of its whole path.
- cvxpy with Clarabel, on a fifth of the features and rows, at two values of lambda: a single value of the full size
  takes it minutes. --cvxpy-full takes one value of the full size as well. It has no warm start.
- the folds of a cross-validation one after the other, each by our solver, against all side by side;
- MTLComb in R, if Rscript and the package are installed: its own path and stopping rule, tol 1e-8.

Equal objectives to 1e-6 are shown first; both of ours then stop at the same duality gap, 1e-6 of the objective. Each
round times the contenders in turn, in changing order; ratios are medians over rounds.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import KFold

from phenomena.chapters.multitask_selection import problem as mixed
from phenomena.chapters.multitask_selection.cross_validation import make_folds
from phenomena.chapters.multitask_selection.data import simulate
from phenomena.chapters.multitask_selection.reference import Reference
from phenomena.chapters.multitask_selection.tasks import fit_scaler

TOL = 1e-6
R_SCRIPT = """
library(MTLComb)
at <- commandArgs(TRUE)[1]
X <- lapply(0:{last}, function(i) as.matrix(read.csv(file.path(at, paste0("x", i, ".csv")), header = FALSE)))
Y <- lapply(0:{last}, function(i) as.matrix(read.csv(file.path(at, paste0("y", i, ".csv")), header = FALSE)))
lambdas <- scan(file.path(at, "lambdas.csv"), quiet = TRUE)
opts <- list(init = 0, maxIter = 5000, tol = 1e-8, ter = 2)
begin <- proc.time()[["elapsed"]]
fit <- MTLComb_Train(X = X, Y = Y, lambda = lambdas, ctasks = 1:{classes}, opts = opts)
cat(proc.time()[["elapsed"]] - begin)
write.table(fit$ws[[{position}]], file.path(at, "w.csv"), sep = ",", row.names = FALSE, col.names = FALSE)
"""


def make(rows: int, features: int, tasks: int) -> tuple[mixed.Problem, Reference]:
    data = simulate(rows, features, tasks // 2, tasks // 2, np.random.default_rng(0), active=features // 10)
    scaler = fit_scaler(data.x, data.y, data.classes)
    parts = scaler.x(data.x), scaler.y(data.y), data.classes
    return mixed.make_problem(*parts, intercept=False), Reference(*parts, intercept=False)


def rows_of(problem: mixed.Problem) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets of each task, where there is one fit and all tasks have the same number of rows."""
    return problem.x.transpose(0, 2, 1), problem.y[:, 0]


def compare_folds(rows: int, features: int, tasks: int, count: int, rounds: int) -> None:
    """Five folds side by side against the same folds one after the other, to the gap that cross-validation asks for."""
    data = simulate(rows, features, tasks // 2, tasks // 2, np.random.default_rng(0), active=features // 10)
    splits = [list(KFold(5, shuffle=True, random_state=0).split(x)) for x in data.x]
    cut = make_folds(data.x, data.y, data.classes, splits, beta=0.05).problem
    single = [cut.fits(np.array([f])) for f in range(5)]
    lambdas = np.tile(mixed.grid(mixed.lambda_max(cut), count, 0.1)[:, None], 5)
    together = np.array([s.objective for s in mixed.paths(cut, lambdas, 1e-3)])
    apart = np.stack([[s.objective[0] for s in mixed.paths(one, lambdas[:, :1], 1e-3)] for one in single], 1)
    print(
        f"{rows} rows, folds side by side: largest relative difference {np.abs(together / apart - 1).max():.1e}",
        end="; ",
    )
    jobs = {
        "together": lambda: list(mixed.paths(cut, lambdas, 1e-3)),
        "one by one": lambda: [list(mixed.paths(one, lambdas[:, :1], 1e-3)) for one in single],
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name in random.sample(list(jobs), 2):
            seconds[name].append(timed(jobs[name])[0])
    quick, slow = (statistics.median(seconds[name]) for name in jobs)
    print(f"{rows} rows: folds side by side {quick:.3f} s, one by one {slow:.3f} s: {slow / quick:.1f} times;", end=" ")
    print(f"largest relative difference of the objective {difference:.1e}")


def by_reference(
    problem: mixed.Problem, reference: Reference, lam: float, start: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, intercepts and objective after the first of every tenth steps with a small duality gap."""
    for k, (w, b) in enumerate(reference.steps(lam, start), 1):
        if k % 10 == 0:
            at = w[:, None], b[:, None], lam
            objective = float(mixed.objective(problem, *at)[0])
            if mixed.certificate(problem, *at).gap[0] <= TOL * objective:
                return w, b, objective
    raise AssertionError("steps have no end")


def by_cvxpy(problem: mixed.Problem, lam: float) -> float:
    import cvxpy as cp

    w = cp.Variable(problem.x.shape[:2])
    parts = []
    for t, (x, y) in enumerate(zip(*rows_of(problem), strict=True)):
        z = x @ w[t]
        part = cp.sum(cp.logistic(-cp.multiply(y, z))) if problem.classes[t] else cp.sum_squares(y - z)
        parts.append(problem.weight[t, 0, 0] * part)
    program = cp.Problem(cp.Minimize(sum(parts) + lam * cp.sum(cp.norm(w, 2, axis=0))))
    return float(program.solve(solver=cp.CLARABEL))


def compare_cvxpy(problem: mixed.Problem, count: int, places: tuple[int, ...]) -> None:
    import cvxpy  # noqa: F401  (its import takes longer than a small problem)

    lambdas = mixed.grid(mixed.lambda_max(problem), count, 0.01)
    whole, solutions = timed(lambda: list(mixed.path(problem, lambdas, TOL)))
    t, p, _ = problem.x.shape
    for k in places:
        seconds, value = timed(lambda k=k: by_cvxpy(problem, lambdas[k]))
        apart = abs(value - solutions[k].objective) / value
        print(f"cvxpy, {t} tasks, {p} features, lambda {k}: objective {apart:.1e} from ours, {seconds:.1f} s;")
        print(f"  ours {whole:.2f} s for the whole path: {seconds * count / whole:.0f} times, scaled")
        assert apart <= TOL


def by_package(problem: mixed.Problem, lambdas: np.ndarray, position: int) -> tuple[float, float] | None:
    """Seconds and objective at one lambda of the authors' package, or nothing where it is not installed."""
    rscript = shutil.which("Rscript")
    if not rscript or subprocess.run([rscript, "-e", "library(MTLComb)"], capture_output=True).returncode:
        return None
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        for i, (x, y) in enumerate(zip(*rows_of(problem), strict=True)):
            np.savetxt(at / f"x{i}.csv", x, delimiter=",")
            np.savetxt(at / f"y{i}.csv", y)
        np.savetxt(at / "lambdas.csv", lambdas)
        classes = int(problem.classes.sum())
        script = R_SCRIPT.format(last=len(problem.x) - 1, classes=classes, position=position + 1)
        (at / "run.R").write_text(script)
        command = [rscript, str(at / "run.R"), folder]
        seconds = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        w = np.loadtxt(at / "w.csv", delimiter=",").T
    return seconds, float(mixed.objective(problem, w[:, None], np.zeros((len(w), 1)), lambdas[position])[0])


def timed(call) -> tuple[float, object]:  # type: ignore[no-untyped-def]
    begin = time.perf_counter()
    result = call()
    return time.perf_counter() - begin, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, help="pin to this core")
    parser.add_argument("--full", action="store_true", help="plain FISTA on the whole path as well, once")
    parser.add_argument("--cvxpy-full", action="store_true", help="cvxpy at a value of the full size as well: minutes")
    parser.add_argument("--small", action="store_true", help="a tenth of the features and rows, to try the script out")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    random.seed(0)
    rows, features, tasks, count = (40, 50, 6, 60) if options.small else (200, 500, 20, 200)
    problem, reference = make(rows, features, tasks)
    lambdas = mixed.grid(mixed.lambda_max(problem), count, 0.01)
    print(f"{tasks} tasks, {features} features, {rows} rows a task, {count} values of lambda, gap {TOL:g}")

    solutions = list(mixed.path(problem, lambdas, TOL))
    places = list(range(count // 20, count, count // 10))
    starts = {k: (solutions[k - 1].w, solutions[k - 1].b) for k in places}
    plain = {k: by_reference(problem, reference, lambdas[k], starts[k])[2] for k in places}
    apart = max(abs(plain[k] - solutions[k].objective) / plain[k] for k in places)
    print(f"largest relative difference of the objective to plain FISTA: {apart:.1e}")
    assert apart <= TOL
    compare_cvxpy(make(max(rows // 5, 20), features // 5, tasks)[0], count, (count // 4, count // 2))
    if options.cvxpy_full:
        compare_cvxpy(problem, count, (count // 2,))
    package = by_package(problem, lambdas, places[-1])
    if package is None:
        print("Rscript with the package MTLComb was not found: no comparison with it.")
    else:
        apart = package[1] / solutions[places[-1]].objective - 1
        print(f"MTLComb in R: {package[0]:.1f} s for the path; its objective is {apart:.1e} above ours")

    for n in (rows // 4, rows // 2, rows):
        compare_folds(n, features, tasks, 10, options.rounds)

    ratios, ours_path = [], []
    for _ in range(options.rounds):
        total = {"plain": 0.0, "ours": 0.0}
        for k in places:
            jobs = {
                "plain": lambda k=k: by_reference(problem, reference, lambdas[k], starts[k]),
                "ours": lambda k=k: mixed.solve(problem, lambdas[k], starts[k], float(lambdas[k - 1]), TOL),
            }
            for name in random.sample(list(jobs), 2):
                total[name] += timed(jobs[name])[0]
        ratios.append((total["plain"] / total["ours"], total["plain"], total["ours"]))
        ours_path.append(timed(lambda: list(mixed.path(problem, lambdas, TOL)))[0])
    whole = statistics.median(ours_path)
    ratio, slow, quick = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"{len(places)} values: plain {slow:.2f} s, ours {quick:.3f} s: {ratio:.1f} times (no line through two values)"
    )
    scaled = slow * count / len(places)
    print(
        f"whole path: ours {whole:.2f} s; plain, scaled from those values, {scaled:.0f} s: {scaled / whole:.0f} times"
    )
    if package is not None:
        print(f"whole path: MTLComb in R {package[0]:.1f} s: {package[0] / whole:.0f} times")
    if options.full:
        begin, start = time.perf_counter(), None
        for lam in lambdas:
            start = by_reference(problem, reference, lam, start)[:2]
        seconds = time.perf_counter() - begin
        print(f"whole path: plain, run in full, {seconds:.1f} s: {seconds / whole:.0f} times")


if __name__ == "__main__":
    main()
