"""The ``fedlp`` command: its subcommands and their options.

Only this module knows the command line. Each command imports its work when it is called, which keeps
``fedlp --help`` fast.
"""

# ruff: noqa: PLC0415 - imports inside commands are the point

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedlp_edge.cli.entry import run
from fedlp_edge.cli.signing.signing_options import keys, release
from fedlp_edge.cli.version import HELP_OPTIONS, Version

__all__ = ["app", "run"]
"""Console scripts of installations before 0.1.0 look for ``run`` here."""

app = typer.Typer(
    name="fedlp",
    help="Federated learning by layers for unequal devices, over MQTT.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings=HELP_OPTIONS,
    pretty_exceptions_enable=False,
)

doctor = typer.Typer(name="doctor", help="Examines what a fleet stands on.", no_args_is_help=True)
app.add_typer(doctor)
app.add_typer(keys)
app.add_typer(release)


@app.callback()
def main(version: Version = False) -> None:
    """Federated learning by layers for unequal devices, over MQTT."""
    del version


_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

_BrokerUrl = Annotated[
    str | None,
    typer.Argument(
        metavar="[URL]", help="mqtt[s]://HOST[:PORT] or ws[s]://HOST[:PORT]/PATH, s for TLS; else --config's."
    ),
]
_FleetFile = Annotated[Path | None, typer.Option(help="The fleet's file: its [broker] table and its name.")]


@app.command()
def demo(
    data: Annotated[str | None, typer.Option(help="digits, fashion-mnist or mnist. [default: digits]")] = None,
    devices: Annotated[int | None, typer.Option(min=1, max=99, help="Agents to start. [default: 5]")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds to run. [default: 10]")] = None,
    broker: Annotated[
        str | None, typer.Option(help="embedded, mosquitto, or the URL of a broker. [default: embedded]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory; a stopped demo there goes on. [default: runs/demo-DATE-TIME]")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything that is drawn. [default: 1]")] = None,
    partition: Annotated[
        str | None,
        typer.Option(help="How samples are partitioned: iid, dirichlet:ALPHA, shards:N, mixed:SHARE. [default: iid]"),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=0, help="Per device, at most; 0 for its whole share. [default: by data set]")
    ] = None,
    scheme: Annotated[
        Literal["hetero", "homo", "both", "fedavg"] | None,
        typer.Option(help="Depth by device, layers drawn for upload, both, or neither. [default: hetero]"),
    ] = None,
    lpr: Annotated[
        float | None, typer.Option(min=0, max=1, help="Layer-preserving rate for homo and both. [default: 0.5]")
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(help="How updates travel, as in [update] encoding, such as int8+zstd or auto. [default: none]"),
    ] = None,
    head_mode: Annotated[
        Literal["shared", "personal"] | None, typer.Option(help="Exit heads of shallow depths. [default: shared]")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Processor of the agents; the same seed gives the same bits on cpu. [default: cpu]"),
    ] = None,
) -> None:
    """Runs a whole fleet on this machine: a broker, a coordinator and unequal devices, each a process."""
    from fedlp_edge.cli.demo.demo_plan import GivenOptions
    from fedlp_edge.cli.demo.launch import run_demo

    given = GivenOptions(
        data=data,
        devices=devices,
        rounds=rounds,
        broker=broker,
        seed=seed,
        partition=partition,
        samples=samples,
        scheme=scheme,
        lpr=lpr,
        encoding=encoding,
        head_mode=head_mode,
        device=device,
    )
    raise typer.Exit(run_demo(given, out))


@app.command()
def simulate(
    experiment: Annotated[Path, typer.Argument(metavar="EXPERIMENT.toml", help="What to simulate.")],
    out: Annotated[
        Path | None, typer.Option(help="Run directory; a stopped run there goes on. [default: runs/RUN]")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"] | None, typer.Option(help="This machine, or a Ray cluster. [default: the file's]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that train; 0 for one a core. [default: the file's]")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but errors.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object at the end, and nothing else.")] = False,
) -> None:
    """Simulates a fleet of virtual devices: the rounds of a real one, without broker and waiting."""
    from fedlp_edge.cli.simulate import run_simulate
    from fedlp_edge.system.path_hints import explain_paths

    with explain_paths(experiment):
        raise typer.Exit(run_simulate(experiment, out, engine, workers, quiet=quiet, as_json=json))


@app.command()
def cost(
    model: Annotated[
        str | None,
        typer.Option(
            help="fedlp-cnn, small-cnn, mlp, torchvision:NAME or module:callable; not with --run alone.",
            show_default=False,
        ),
    ] = None,
    input: Annotated[str | None, typer.Option(help="Shape of one sample, such as 3x32x32.", show_default=False)] = None,
    classes: Annotated[int, typer.Option(min=0, help="0 keeps the model's own.")] = 10,
    tokens: Annotated[bool, typer.Option("--tokens", help="The input is whole numbers, such as token ids.")] = False,
    depths: Annotated[int, typer.Option(min=0, help="Most depths; 0 for at most 8, or the model's own.")] = 0,
    scheme: Annotated[Literal["homo", "hetero", "fedavg"], typer.Option(help="Which rules to count by.")] = "fedavg",
    lpr: Annotated[
        float | None, typer.Option(min=0, max=1, help="Layer-preserving rate. [default: homo 0.5, else 1]")
    ] = None,
    depth_mix: Annotated[
        str | None, typer.Option(help="Share of the devices per depth, such as 0.2,0.3,0.5. [default: uniform]")
    ] = None,
    head_mode: Annotated[
        Literal["shared", "personal"], typer.Option(help="personal (the paper): shallow heads stay on their devices.")
    ] = "personal",
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="What is not trained, as in [model] freeze; again for more."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of the updates, as in [update] encoding.")] = "none",
    broadcast: Annotated[str, typer.Option(help="Encoding of the model, as in [update] broadcast.")] = "none",
    devices: Annotated[int, typer.Option(min=1, help="Devices of a round, for the total.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, for the total.")] = 1,
    run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run directory, whose realised figures stand beside; alone, of its model."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Counts communication and computation of a model under a scheme, as the FedLP paper does, and the bytes."""
    from fedlp_edge.cli.cost import CostOptions, cost_of_run, run_cost
    from fedlp_edge.cli.depths import parse_input
    from fedlp_edge.core.settings import ModelSettings
    from fedlp_edge.errors import ConfigError

    options = CostOptions(scheme, lpr, depth_mix, encoding, broadcast, devices, rounds, run)
    if model is None and input is None and run is not None:
        settings, options = cost_of_run(run, options)
        raise typer.Exit(run_cost(settings, options, as_json=json))
    if model is None or input is None:
        raise ConfigError("name --model and --input, or a run with --run DIR")
    settings = ModelSettings(
        name=model,
        input=parse_input(input),
        classes=classes,
        tokens=tokens,
        depths=depths,
        head_mode=head_mode,
        freeze=tuple(freeze or ()),
    )
    raise typer.Exit(run_cost(settings, options, as_json=json))


@app.command()
def plan(
    model: Annotated[str, typer.Option(help="fedlp-cnn, small-cnn, mlp, torchvision:NAME or module:callable.")],
    input: Annotated[str, typer.Option(help="Shape of one sample, such as 3x64x64.")],
    classes: Annotated[int, typer.Option(min=0, help="0 keeps the model's own.")] = 10,
    tokens: Annotated[bool, typer.Option("--tokens", help="The input is whole numbers, such as token ids.")] = False,
    depths: Annotated[int, typer.Option(min=0, help="Most depths; 0 for at most 8, or the model's own.")] = 0,
    profiles: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of profiles. [default: the package's]")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per training step.")] = 32,
    deadline: Annotated[float, typer.Option(min=1, help="Seconds of a round.")] = 300.0,
    samples: Annotated[int, typer.Option(min=1, help="Training samples of a device.")] = 1000,
    head_mode: Annotated[Literal["shared", "personal"], typer.Option(help="Exit heads of shallow depths.")] = "shared",
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="What is not trained, as in [model] freeze; again for more."),
    ] = None,
    techniques: Annotated[
        bool, typer.Option(help="Let devices save memory in ways that take time, before depth is given up.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Says which depth of a model each class of devices would get, and why."""
    from fedlp_edge.cli.depths import parse_input
    from fedlp_edge.cli.plan import run_plan
    from fedlp_edge.core.planning.rules import PlanningRules
    from fedlp_edge.core.settings import ModelSettings, PlannerSettings, TrainingSettings

    settings = ModelSettings(
        name=model,
        input=parse_input(input),
        classes=classes,
        tokens=tokens,
        depths=depths,
        head_mode=head_mode,
        freeze=tuple(freeze or ()),
    )
    training = TrainingSettings(batch_size=batch_size)
    planner = PlannerSettings() if techniques else PlannerSettings(techniques=())
    rules = PlanningRules(planner=planner, training=training, deadline_seconds=deadline)
    raise typer.Exit(run_plan(settings, rules, profiles, samples, as_json=json))


@app.command()
def profile(
    measure: Annotated[bool, typer.Option("--measure", help="Start a worker and measure how fast it trains.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Says what this machine has, and what training may take of it."""
    from fedlp_edge.cli.profile import run_profile

    raise typer.Exit(run_profile(measure=measure, as_json=json))


@app.command()
def data(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="Data specification.")],
    devices: Annotated[int | None, typer.Option(min=1, help="How many share it.")] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="How samples are partitioned: iid, dirichlet:ALPHA, shards:N, mixed:SHARE, mixed-authors:SHARE, "
            "group. [default: iid]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the partition. [default: the specification's, or 0]")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Says what data hold; with --devices, which device of a simulated fleet holds what."""
    from fedlp_edge.cli.data import run_data, run_found

    if devices is None and partition is None and plot is None:
        raise typer.Exit(run_found(spec, as_json=json))
    raise typer.Exit(run_data(spec, devices or 10, partition or "iid", seed, plot, as_json=json))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory for the ONNX files.")],
    depth: Annotated[str, typer.Option(help="A depth, or all.")] = "all",
    data: Annotated[
        str | None, typer.Option(help="Held-out data to check with. [default: what the run was evaluated with]")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 or int8; several with commas, or the option again. [default: fp32]"),
    ] = None,
    early_exit: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="CONFIDENCE", help="Write a file that stops at the first exit this sure."),
    ] = None,
    opset: Annotated[int, typer.Option(min=13, help="ONNX opset.")] = 18,
    normalized_input: Annotated[
        bool, typer.Option("--normalized-input", help="Take pictures as normalised float32, not as bytes.")
    ] = False,
    answer: Annotated[
        Literal["auto", "exit"] | None,
        typer.Option(help="With the mean of exits that all devices teach, or the exit alone. [default: as configured]"),
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights. [default: that of the configuration]")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="To measure files with; 0 for one per core.")] = 0,
    seconds: Annotated[float, typer.Option(min=0, help="To measure each file for; 0 for not at all.")] = 1.0,
    profile: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="PROFILE", help="Measure with a device profile's threads, and say which file suits."
        ),
    ] = None,
) -> None:
    """Writes ONNX files of a run's latest checkpoint, each checked against PyTorch, and a card that compares them."""
    from fedlp_edge.cli.models.export import ExportOptions, parse_precisions, run_export
    from fedlp_edge.probe.profiles import find_profile

    wanted = None if profile is None else find_profile(profile)
    if wanted is not None and not seconds:
        raise typer.BadParameter("--for chooses by what is measured: leave --seconds 0 away")
    options = ExportOptions(
        precisions=parse_precisions(precision or []),
        early_exit=early_exit,
        opset=opset,
        raw_input=not normalized_input,
        answer=answer,
        license=license,
        threads=threads or (0 if wanted is None else wanted.threads or 0),
        seconds=seconds,
        profile=wanted,
    )
    raise typer.Exit(run_export(run, depth, out, data, options))


@app.command()
def infer(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An exported model.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...|-",
            help="Pictures, .npy files of one sample, tables, or folders; - reads paths or JSON lists of numbers, "
            "one a line, or one picture, from standard input.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Answers pictures, arrays or rows of tables with an exported model."""
    from fedlp_edge.cli.models.infer import run_infer

    raise typer.Exit(run_infer(model, inputs, as_json=json))


@app.command()
def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx...", help="ONNX files, or folders of them.")],
    samples: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Pictures, .npy files or folders to run. [default: random values]"),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="Of onnxruntime; 0 for one per core.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="To measure each file for.")] = 2.0,
    profile: Annotated[
        str | None, typer.Option("--for", metavar="PROFILE", help="Say which file suits a device profile, and why.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measures how fast exported models answer on this machine, and in how much memory."""
    from fedlp_edge.cli.models.bench import run_bench

    raise typer.Exit(run_bench(models, samples or [], threads, seconds, as_json=json, profile=profile))


@app.command()
def serve(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="An exported model; a new file in its place is used.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; anyone who reaches it may ask.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of HTTP; 0 for a free one.")] = 8080,
    threads: Annotated[int, typer.Option(min=0, help="Of onnxruntime; 0 for one per core.")] = 0,
    broker: Annotated[
        str | None, typer.Option(metavar="URL", help="Answer over MQTT too; a login comes from the environment.")
    ] = None,
    topic: Annotated[
        str,
        typer.Option(metavar="PREFIX", help="Requests to PREFIX/infer/NUMBER are answered on PREFIX/answer/NUMBER."),
    ] = "fedlp/serve",
) -> None:
    """Answers requests with an exported model, over HTTP and MQTT."""
    from fedlp_edge.cli.models.serve import run_serve

    raise typer.Exit(run_serve(model, host, port, threads, broker, topic))


@app.command()
def status(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run directory. [default: the newest in runs]")
    ] = None,
) -> None:
    """Reports what a run directory holds."""
    from fedlp_edge.cli.status import newest_run_here, run_status

    raise typer.Exit(run_status(run or newest_run_here()))


@app.command()
def fleet(
    url: _BrokerUrl = None,
    config: _FleetFile = None,
    fleet: Annotated[str | None, typer.Option(help="Only this one. [default: --config's, else all]")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object for each fleet instead of tables.")] = False,
) -> None:
    """Lists the coordinators and devices that a broker knows of; a login comes from the file or the environment."""
    from fedlp_edge.cli.fleet.fleet_list import run_fleet

    raise typer.Exit(run_fleet(url, config, fleet, as_json=json))


@app.command()
def broker(
    kind: Annotated[
        Literal["embedded", "mosquitto"], typer.Option(help="Pure Python, or the installed Mosquitto.")
    ] = "embedded",
    host: Annotated[str, typer.Option(help="Address to listen on; anyone who reaches it may join.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for a free one.")] = 1883,
) -> None:
    """Runs an MQTT broker without logins, for a first try."""
    from fedlp_edge.cli.broker import run_broker

    raise typer.Exit(run_broker(kind, host, port))


@doctor.command("broker")
def doctor_broker(
    url: _BrokerUrl = None,
    config: _FleetFile = None,
    device_config: Annotated[
        Path | None, typer.Option(help="An agent's file, if devices have another login than the coordinator.")
    ] = None,
    fleet: Annotated[
        str | None, typer.Option(help="Whose topics to try, as access rules may name them. [default: one of its own]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Id of the device to play. [default: its login's name]")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Tells whether a broker can carry a fleet, how fast, and what to set; a login comes from files or environment."""
    from fedlp_edge.cli.doctor.broker_check import run_doctor

    raise typer.Exit(run_doctor(url, config, device_config, fleet, device, as_json=json))


@app.command(context_settings=_PASS_ON, add_help_option=False)
def coordinator(context: typer.Context) -> None:
    """Runs the coordinator (the same as fedlp-coordinator)."""
    from fedlp_edge.cli.services import run_service

    run_service("fedlp-coordinator", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def deploy(context: typer.Context) -> None:
    """Rolls a model out to the devices of a fleet, group by group; status, pause, resume and abort steer it."""
    from fedlp_edge.cli.services import run_service

    run_service("fedlp-coordinator", ["deploy", *context.args])


@app.command(context_settings=_PASS_ON, add_help_option=False)
def agent(context: typer.Context) -> None:
    """Runs a device agent (the same as fedlp-agent)."""
    from fedlp_edge.cli.services import run_service

    run_service("fedlp-agent", context.args)


@app.command()
def version() -> None:
    """Prints the version."""
    from fedlp_edge import __version__

    print(f"fedlp-edge {__version__}")


for _group in (app, doctor, keys, release):
    for _command in _group.registered_commands:
        # Lists of commands give first sentences whole; left to itself, click cuts them off at the end of a line.
        _command.short_help = ((_command.callback and _command.callback.__doc__) or "").partition("\n")[0]
