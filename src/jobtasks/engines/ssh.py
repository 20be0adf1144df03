"""The ssh engine: a list of hosts, on each of which a keeper runs; they serve all jobs.

All it needs of a host is a shell and a Python that has JobTasks. What is done there are three short
scripts, given to ``sh -s``; the keeper outlives the connection that started it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from jobtasks.core.growth import Offer
from jobtasks.core.requests import Ask, Limits, RequestState, Sighting
from jobtasks.engines.base import Refused, Setting, Unclear, read_options
from jobtasks.engines.commands import Answer, Commands
from jobtasks.engines.local import keeper_words

SSH_FAILED = 255
"""The exit code of ``ssh`` itself: nothing is known of the host."""
BUSY = 10
"""The scripts' exit code when the host's keeper is of another request."""
NOT_ABLE = 11
AT_A_TIME = 16
"""Hosts that are called at a time."""
PLACED = "placed"
FIND = """\
node={node}
alive() {{
  read -r pid started < "$node/keeper.pid" 2>/dev/null || return 1
  fields=$(cat "/proc/$pid/stat" 2>/dev/null) || return 1
  set -- ${{fields##*) }}
  [ "$1" != Z ] && [ "${{20}}" = "$started" ]
}}
mine() {{ [ "$(cat "$node/request" 2>/dev/null)" = {name} ]; }}
"""
"""Whether the node's keeper lives, by pid and start time, and whether it is of this request."""
START = """\
umask 077
mkdir -p "$node" || exit {not_able}
if alive; then mine && {{ echo {placed}; exit 0; }}; exit {busy}; fi
{python} -c 'import jobtasks' || exit {not_able}
printf '%s\\n' {name} > "$node/request"
printf '%s\\n' {token} > "$node/agent.token"
{authorities}setsid nohup {keeper} --token-file "$node/agent.token" --node-dir "$node" \\
  </dev/null >> "$node/agent.log" 2>&1 &
tries=0
until alive; do
  kill -0 $! 2>/dev/null || exit {not_able}
  tries=$((tries + 1)); [ $tries -gt 100 ] && exit {not_able}
  sleep 0.1
done
echo {placed}
"""
LOOK = """\
if alive; then mine && echo granted || echo other; else mine && echo over || echo none; fi
"""
END = """\
if alive && mine; then kill -TERM "$pid"; fi
echo ended
"""


class SshOptions(msgspec.Struct, frozen=True, rename="kebab"):
    """What ``--engine-option`` may say to the ssh engine."""

    hosts: str = ""
    """Names as ``ssh`` takes them, set apart by commas."""
    ssh: str = ""
    """Further words for ``ssh``, such as ``-p 2222 -i KEY``."""
    python: str = "python3"
    """The Python on the hosts that has JobTasks."""
    node_dir: str = ""
    """The node's directory on each host; "": .jobtasks-node in the user's home directory."""


class SshEngine:
    """Keeps one node on each host of a list."""

    name = "ssh"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._commands = Commands(setting.command_seconds)
        self._options = read_options(self.name, SshOptions, setting.options)
        names = [name.strip() for name in self._options.hosts.split(",")]
        self.hosts: Sequence[str] = tuple(dict.fromkeys(name for name in names if name))
        self._hosts_of: dict[str, str] = {}
        """Where requests were placed, by name."""

    def offer(self) -> Offer:
        """Return that nodes are what their hosts are."""
        return Offer(self._setting.slots or 1, nodes_max=1)

    def limits(self) -> Limits:
        """Return that nothing is known: nodes say themselves what they have."""
        return Limits(nodes_max=1)

    def ask(self, name: str, ask: Ask) -> str:
        """Start a keeper on a host, unless it is there."""
        answer = self._call(ask.place, self._find(name) + self._start(name, ask.place))
        if answer.code == 0 and PLACED in answer.out.split():
            return _engine_id(ask.place, name)
        if answer.code == BUSY:
            raise Refused(f"{ask.place} has the node of another request")
        if answer.code == NOT_ABLE:
            raise Refused(f"{ask.place}: {_last_line(answer.err) or 'the keeper did not start'}")
        raise Unclear(f"{ask.place}: {_last_line(answer.err) or answer.code}")

    def look(self, names: Sequence[str]) -> list[Sighting]:
        """Return what runs on the hosts; of a host that does not answer nothing is said."""
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            found = list(threads.map(self._look_at, names))
        answered = [one for one in found if not isinstance(one, Unclear)]
        if names and not answered:
            raise next(one for one in found if isinstance(one, Unclear))
        return [one for one in answered if one is not None]

    def _look_at(self, name: str) -> Sighting | Unclear | None:
        host = self._host_of(name)
        if host is None:
            return None
        try:
            answer = self._call(host, self._find(name) + LOOK)
        except Unclear as unclear:
            return unclear
        words = answer.out.split()
        if answer.code or not words:
            return Unclear(f"{host}: {_last_line(answer.err)}")
        if words[-1] in ("other", "none"):
            return None
        state = RequestState(words[-1])
        places = (host,) if state is RequestState.GRANTED else ()
        return Sighting(name, _engine_id(host, name), state, state.value, "", places)

    def is_gone(self, engine_id: str) -> bool:
        """Return whether the host says that no keeper of that request runs there."""
        host, _, name = engine_id.partition("/")
        answer = self._call(host, self._find(name) + LOOK)
        words = answer.out.split()
        if answer.code or not words:
            raise Unclear(f"{host}: {_last_line(answer.err)}")
        return words[-1] != RequestState.GRANTED

    def give_back(self, engine_id: str, places: Sequence[str]) -> None:
        """Do nothing: each request has one node."""

    def cancel(self, engine_id: str) -> None:
        """End a host's keeper in good order, when it is of that request."""
        host, _, name = engine_id.partition("/")
        answer = self._call(host, self._find(name) + END)
        if answer.code or "ended" not in answer.out.split():
            raise Unclear(f"{host}: {_last_line(answer.err)}")

    def close(self) -> None:
        """Leave the keepers to the next server, and wait for no host."""
        self._commands.close()

    def _host_of(self, name: str) -> str | None:
        """Return the host that a request's name tells (service/engines.py makes them so)."""
        known = sorted(self.hosts, key=len, reverse=True)
        return next((host for host in known if f"-{host}-" in name), None)

    def _node(self) -> str:
        given = self._options.node_dir
        return shlex.quote(given) if given else '"$HOME/.jobtasks-node"'

    def _find(self, name: str) -> str:
        return FIND.format(node=self._node(), name=shlex.quote(name))

    def _start(self, name: str, place: str) -> str:
        setting = self._setting
        words = keeper_words(
            setting.url,
            setting.slots,
            setting.pass_env,
            setting.cgroups,
            in_place=setting.in_place,
        )
        words[0] = self._options.python
        keeper = shlex.join([*words, "--request", name, "--place", place])
        authorities = ""
        if setting.authorities:
            authorities = f'printf %s {shlex.quote(setting.authorities)} > "$node/ca.pem"\n'
            keeper += ' --ca-file "$node/ca.pem"'
        return START.format(
            name=shlex.quote(name),
            token=shlex.quote(setting.token_file.read_text(encoding="ascii").strip()),
            python=shlex.quote(self._options.python),
            authorities=authorities,
            keeper=keeper,
            placed=PLACED,
            busy=BUSY,
            not_able=NOT_ABLE,
        )

    def _call(self, host: str, script: str) -> Answer:
        """Run a script on a host; errors: Unclear, when it cannot be reached."""
        words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        words += [*shlex.split(self._options.ssh), "--", host, "sh", "-s"]
        answer = self._commands.run(words, stdin=script)
        if answer.code == SSH_FAILED:
            raise Unclear(f"{host}: {_last_line(answer.err) or 'no connection'}")
        return answer


def _engine_id(host: str, name: str) -> str:
    return f"{host}/{name}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
