"""`python -m llm_platform.nim_local`: one embedded NIM in this process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_platform.nim_local.config import EmbeddedConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    options = _parser().parse_args(arguments)
    if options.detach and os.fork() > 0:
        # The launcher ends at once, so the server is nobody's child: no zombie, and no signal meant for its starter.
        os._exit(0)
    if options.detach:
        os.setsid()

    from llm_platform.errors import PlatformError
    from llm_platform.files import keep_to_owner
    from llm_platform.nim_local.daemon import log_to_stderr, serve

    keep_to_owner()
    log_to_stderr()
    try:
        config = _config(options)
        return serve(
            config,
            host=options.host,
            port=options.port,
            state=options.state,
            on_ready=_announcer(options.ready_fd),
        )
    except (PlatformError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llm_platform.nim_local", description=__doc__)
    parser.add_argument("--weights", type=Path, help="GGUF file to serve")
    parser.add_argument("--weights-sha256", help="its sha256; computed when left out")
    parser.add_argument("--model-id", help="name the model is served under")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--context-length", type=int, help="tokens of prompt and answer per request")
    parser.add_argument("--slots", type=int, help="requests computed at once")
    parser.add_argument("--threads", type=int, help="threads to compute with (default: the processors allowed)")
    parser.add_argument("--dialect", choices=("nim-1.x", "nim-2.x"), help="line of NIM to speak like")
    parser.add_argument(
        "--peft-source",
        type=Path,
        default=os.environ.get("NIM_PEFT_SOURCE"),
        help="folder of LoRA adapters (default: $NIM_PEFT_SOURCE)",
    )
    parser.add_argument(
        "--peft-refresh-seconds",
        type=float,
        default=os.environ.get("NIM_PEFT_REFRESH_INTERVAL"),
        help="how often to look there (default: $NIM_PEFT_REFRESH_INTERVAL)",
    )
    parser.add_argument("--idle-exit-seconds", type=float, help="end after this long without a request, 0 for never")
    parser.add_argument("--state", type=Path, help="state folder to register in")
    parser.add_argument("--config", help="the whole configuration as JSON, instead of the options above")
    parser.add_argument("--detach", action="store_true", help="run in the background, in a session of its own")
    parser.add_argument("--ready-fd", type=int, help="file descriptor to write the address to once ready")
    return parser


def _config(options: argparse.Namespace) -> EmbeddedConfig:
    from llm_platform.files import file_sha256
    from llm_platform.nim_local.config import EmbeddedConfig

    if options.config is not None:
        return EmbeddedConfig.model_validate_json(options.config)
    if options.weights is None or options.model_id is None:
        raise ValueError("Could not start: --weights and --model-id are needed (or --config).")
    weights = options.weights.absolute()
    if not weights.is_file():
        raise ValueError(f"Could not start: no file at {str(weights)!r}. Name the GGUF file with --weights.")
    names = (
        "context_length",
        "slots",
        "threads",
        "idle_exit_seconds",
        "dialect",
        "peft_source",
        "peft_refresh_seconds",
    )
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return EmbeddedConfig(
        model_id=options.model_id,
        weights=weights,
        weights_sha256=options.weights_sha256 or file_sha256(weights),
        **given,
    )


def _announcer(descriptor: int | None) -> Callable[[str], None] | None:
    if descriptor is None:
        return None

    def announce(base_url: str) -> None:
        try:
            os.write(descriptor, f"{base_url}\n".encode())
        except BrokenPipeError:
            # Whoever started this server is gone; others may use it.
            pass
        finally:
            os.close(descriptor)

    return announce


if __name__ == "__main__":
    sys.exit(main())
