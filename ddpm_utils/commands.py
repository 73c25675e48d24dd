"""What each subcommand of `ddpm` does; see `__main__`. Imports that take seconds wait until they are needed."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from ddpm_utils.system.places import RESOURCES, output
from ddpm_utils.system.surroundings import kernel_settings

UNSUITED = ["@jupyter/nbgrader", "@jupyter-notebook/lab-extension"]  # JupyterLab's, which Voilà could not start


def run(values: dict) -> int:
    """Execute notebooks 01–04 for both published schedules, and 05; print the table of results."""
    from ddpm_utils.batch.engines import cores, on_processes
    from ddpm_utils.batch.jobs import with_convolution
    from ddpm_utils.batch.progress import Board
    from ddpm_utils.batch.sweep import FIRST_MINUTE, main_job, rows_of, write_table
    from ddpm_utils.system.locks import delete_runs, locked
    from ddpm_utils.training.experiments import PUBLISHED, Experiment
    from ddpm_utils.training.restorations import RestorationExperiment

    runs = output() / "data" / "runs"
    dataset = values.get("dataset", "mnist")
    experiments = [Experiment(**published, dataset=dataset) for published in PUBLISHED.values()]
    chains = main_job(experiments, runs, values)
    workers = min(cores(), len(chains))
    threads = cores() // workers
    chains = with_convolution(chains, threads)
    with locked(runs):
        delete_runs([experiment.with_values(run_name=FIRST_MINUTE).run_folder for experiment in experiments])
        for experiment in experiments:  # this job starts from scratch
            experiment.table_path.unlink(missing_ok=True)
        failures = Board(chains, workers).follow(on_processes(chains, workers, threads))
        paths = write_table(rows_of(experiments), runs)
    print(f"\n{paths[1].read_text(encoding='utf-8')}")
    print("Tables:    ", *[relative(path) for path in paths])
    shown = [*experiments, RestorationExperiment(dataset=dataset)]
    print("Notebooks: ", *[relative(runs / experiment.slug) for experiment in shown])
    print("Figures:   ", *[relative(experiment.figures_folder) for experiment in shown])
    return 1 if failures else 0


def sweep(
    grid: str,
    *,
    only: int | None,
    workers: int | None,
    threads: int,
    dask: bool,
    scheduler: str | None,
    dry_run: bool,
) -> int:
    """Execute a grid of experiments: notebooks, figures and one table, in data/runs/<name of the grid>/.

    Whatever is done is kept and recognised: a sweep that was stopped resumes with the same command.
    """
    from ddpm_utils.batch.engines import check_options, cores, on_dask, on_processes
    from ddpm_utils.batch.grid import read_grid
    from ddpm_utils.batch.jobs import is_complete, with_convolution
    from ddpm_utils.batch.progress import Board
    from ddpm_utils.batch.sweep import Results, plan, prospects, seconds_of
    from ddpm_utils.system.locks import locked

    name = Path(grid).stem
    on_a_cluster = dask or bool(scheduler)
    check_options(name, workers, threads, on_a_cluster)
    folder = output().resolve() / "data" / "runs" / name
    entries = read_grid(Path(grid))
    chains = plan(entries, folder)
    if only is not None and not 1 <= only <= len(chains):
        raise ValueError(f"--only must be in 1…{len(chains)}, the experiments of {grid}, not {only}.")
    if dry_run:
        print(*prospects(chains), sep="\n")
        return 0
    chains = with_convolution(chains, threads)
    chosen = chains if only is None else [chains[only - 1]]
    waiting = [chain for chain in chosen if not is_complete(chain)]
    print(f"Experiments in the grid: {len(chains)}, to be executed: {len(waiting)}.", flush=True)
    results = Results(entries, chains, folder)
    with locked(folder, shared=True):  # beside other tasks of a job array
        if waiting:
            workers = workers or max(1, min(cores() // threads, len(waiting)))
            if on_a_cluster:
                events = on_dask(waiting, workers, scheduler, partial(print, flush=True))
            else:
                events = on_processes(waiting, workers, threads)
            board = Board(waiting, workers, seconds_of(chain for chain in chains if chain not in waiting))
            for failure in board.follow(events, results.update):
                print(f"FAILED      {failure.experiment} / {failure.notebook}, {failure.message}")
        print("Notebooks: ", relative(folder))
        print("Results:   ", *[relative(path) for path in results.write()])
    return 0 if all(is_complete(chain) for chain in chosen) else 1


def grid_path(grid: str) -> str:
    """The path of a grid: of yours if there is that file here, else of the project's, such as grids/beta_T.yaml."""
    return grid if Path(grid).exists() or not (RESOURCES / grid).exists() else str(RESOURCES / grid)


def lab() -> int:
    """Open a copy of the notebooks, in data/runs/lab/, in JupyterLab; on loopback only, behind a token.

    A notebook that you have edited there is kept; the others are replaced when there is a newer version.
    """
    from ddpm_utils.batch.notebooks import copy_notebooks

    folder = output().absolute() / "data" / "runs" / "lab"
    for path in copy_notebooks(folder):
        print(f"There is a newer version of {relative(path)}, which you have edited: rename it, and start again.")
    command = [*lab_server(folder), str(folder / "01_forward_process.ipynb")]
    return subprocess.call(command, env=kernel_environment(), cwd=folder)


def lab_server(folder: Path) -> list[str]:
    """The command that serves a folder with JupyterLab, which makes up a token of its own."""
    return [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]


def kernel_environment() -> dict[str, str]:
    """The environment of a server's kernels, which start in other folders but use the same data and output."""
    from ddpm_utils.networks.cpu import TUNABLES

    folders = {"DDPM_OUTPUT": str(output())} | {k: v for k, v in os.environ.items() if k == "DDPM_DATA" and v}
    own = {name: os.path.abspath(os.path.expanduser(folder)) for name, folder in folders.items()}
    share = str(Path(__file__).parent / "batch" / "share")  # a kernel of this Python, and a template for Voilà
    own["JUPYTER_PATH"] = os.pathsep.join(filter(None, [share, os.environ.get("JUPYTER_PATH")]))
    return {"GLIBC_TUNABLES": TUNABLES} | kernel_settings() | own


def app() -> int:
    """Serve the notebooks' panels as one page without code (Voilà), on loopback only, behind a token."""
    command, environment = app_server()
    return subprocess.call([*command, "--token"], env=environment)


def app_server() -> tuple[list[str], dict[str, str]]:
    """The command that serves the page, without its token, and its environment.

    The environment leads Voilà to a template of ours, whose page fetches nothing from elsewhere.
    """
    options = ["--template=offline", "--Voila.ip=127.0.0.1", f"--VoilaConfiguration.extension_denylist={UNSUITED}"]
    command = [sys.executable, "-m", "voila", str(RESOURCES / "notebooks" / "app.ipynb"), *options]
    return command, kernel_environment()


def student() -> None:
    """Write the student edition of the notebooks, without solutions, to data/runs/student/."""
    from ddpm_utils.batch.notebooks import write_student_edition

    print(*(relative(path) for path in write_student_edition(output() / "data" / "runs" / "student")), sep="\n")


def site(folder: Path | None = None) -> None:
    """Write the executed notebooks as a static web site to <folder>/site/: of data/runs, or of one sweep below it."""
    from ddpm_utils.batch.site import build_site

    folder = folder or output() / "data" / "runs"
    print(relative(build_site(folder, folder / "site")))


def train(values: dict, tensorboard: bool = False) -> None:
    """Train an experiment to its number of epochs, from where its run folder is.

    `accelerate launch -m ddpm_utils train …` trains on several devices, or in several processes.
    """
    from ddpm_utils.batch.grid import make_experiment

    train_experiment(make_experiment({"dataset": "mnist"} | values), tensorboard)


def train_experiment(experiment, tensorboard: bool = False) -> None:
    """Train with a progress bar, from where the run folder is; of several processes the first alone prints.

    Args:
        tensorboard: log the losses in the run folder's `tensorboard/`, too.

    Raises:
        ValueError: if tensorboard is to be used and not installed.
    """
    from accelerate import Accelerator
    from accelerate.utils import is_tensorboard_available
    from tqdm.auto import tqdm

    if tensorboard and not is_tensorboard_available():
        raise ValueError("--tensorboard needs a package that is not installed: pip install tensorboard.")
    accelerator = Accelerator(log_with="tensorboard" if tensorboard else None, project_dir=experiment.run_folder)
    dataset = experiment.load_data()
    accelerator.print(dataset.source)
    run = experiment.open_run(dataset)
    accelerator.print(f"Run folder: {relative(experiment.run_folder)}, {run.step} steps done.")
    accelerator.print(f"Processes: {accelerator.num_processes}, device: {accelerator.device.type}.")
    logged_again = {"purge_step": run.step + 1}  # what was logged after the last save
    total = len(dataset.train) // experiment.batch_size * experiment.epochs
    with tqdm(total=total, initial=run.step, unit="step", disable=not accelerator.is_main_process) as bar:
        for progress in experiment.train(run, dataset, accelerator=accelerator):
            if tensorboard and not accelerator.trackers:  # now no other process writes to the folder
                accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": logged_again})
            accelerator.log(progress.losses, step=progress.step)
            bar.update()
            bar.set_postfix(epoch=progress.epoch, loss=f"{progress.losses['train']:.4f}", refresh=False)
            if "validation" in progress.losses and accelerator.is_main_process:
                bar.write(
                    f"epoch {progress.epoch}: training loss {progress.losses['epoch_train']:.5f}, "
                    f"validation loss {progress.losses['validation']:.5f}"
                )
    accelerator.end_training()


def clean() -> None:
    """Delete what runs have written: data/runs. Downloads, shipped weights and the gallery stay.

    Raises:
        ValueError: if notebooks in data/runs/lab were edited; nothing is deleted then.
        CheckpointError: if a process works in there; nothing is deleted then.
    """
    from ddpm_utils.system.locks import check_unlocked, empty, locked

    folder = output() / "data" / "runs"
    if not folder.exists():
        return
    if (folder / "lab").exists():
        from ddpm_utils.batch.notebooks import edited_notebooks

        if edited := edited_notebooks(folder / "lab"):
            them = "it" if len(edited) == 1 else "them"
            raise ValueError(f"you have edited {', '.join(map(relative, edited))}: move {them} away first.")
    with locked(folder):
        check_unlocked(folder)
        try:
            empty(folder)
        except OSError as error:  # names a file without its folder
            raise OSError(error.errno, error.strerror, str(folder)) from error


def relative(path: Path) -> str:
    """A path as seen from here, if it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
