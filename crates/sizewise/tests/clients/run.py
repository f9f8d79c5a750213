"""Do the public clients of each protocol work when only their base URL is changed?

Starts `sizewise serve` on a project whose task `support` asks `team` (choice) and `urgent` (predicate), drives it with the
`openai`, `anthropic`, `google-genai` and `typesafe-sdk` packages and looks at the objects that they parse. See README.md beside this file.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import tempfile

import upstream

HERE = pathlib.Path(__file__).resolve().parent


def environment() -> pathlib.Path:
    """The Python of a virtual environment that has the clients; made on first use."""
    default = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "sizewise" / "clients-venv"
    venv = pathlib.Path(os.environ.get("SIZEWISE_CLIENTS_VENV", default))
    python = venv / "bin" / "python"
    wanted = (HERE / "requirements.txt").read_text()
    stamp = venv / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")], check=True)
        stamp.write_text(wanted)
    return python


class Server:
    """A server of our own, on a free port, stopped at the end."""

    def __init__(self, binary: str, project: str):
        self.process = subprocess.Popen(
            [binary, "--project", project, "serve", "--bind", "127.0.0.1:0", "--allow-uncertified"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # A server that hangs is ended, which ends what it says too.
        patience = threading.Timer(60, self.process.kill)
        patience.start()
        # The ready line names the address.
        said = []
        for line in self.process.stdout:
            said.append(line)
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if found:
                break
        else:
            raise SystemExit(f"the server did not become ready; it said:\n{''.join(said)}")
        patience.cancel()
        self.url = found.group(0)

    def __enter__(self):
        return self.url

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def ask(python: pathlib.Path, checks: str, url: str, key: str | None) -> bool:
    """Runs one file of checks in the environment of the clients."""
    command = [str(python), str(HERE / checks), url, *([key] if key else [])]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "TYPESAFE_", "ANTHROPIC_", "GOOGLE_", "GEMINI_"))}
    return subprocess.run(command, env=clean, check=False).returncode == 0


def main() -> int:
    python = environment()
    if "--install" in sys.argv:
        return 0
    url = os.environ.get("SIZEWISE_URL")
    if url:
        return 0 if ask(python, "checks.py", url, None) else 1
    binary, project = os.environ["SIZEWISE_BIN"], os.environ["SIZEWISE_PROJECT"]
    with Server(binary, project) as url:
        good = ask(python, "checks.py", url, None)
    # Keys belong to a project, and once there is one it cannot be unmade: the keys are tried on a copy.
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(project, pathlib.Path(folder) / "project")
        made = subprocess.run(
            [binary, "--project", str(copy), "keys", "create", "clients", "--role", "operator"], capture_output=True, text=True, check=True
        )
        key = re.search(r"\bsw_[A-Za-z0-9_-]+", made.stdout + made.stderr)
        if key is None:
            print("keys create printed no secret that begins with sw_")
            return 1
        with Server(binary, str(copy)) as url:
            good = ask(python, "checks.py", url, key.group(0)) and good
        # The same task with a larger model for the rest, and providers that are called by name.
        (copy / "sizewise.toml").write_text(upstream.settings(upstream.start()))
        file = copy / "tasks" / "support" / "task.toml"
        text = re.sub(r"^# remote = .*$", 'remote = "chatty"', file.read_text(), flags=re.MULTILINE)
        file.write_text(text + "\n[budget]\nusd_per_day = 1.00\n")
        os.environ["SIZEWISE_UPSTREAM_KEY"] = "upstream-key"
        with Server(binary, str(copy)) as url:
            good = ask(python, "larger.py", url, key.group(0)) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
