"""A Slurm cluster on loopback: munged, slurmctld and two slurmd, with files in one folder."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = "munge slurmctld slurmd slurm-client"
NODES = ("n1", "n2")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=2
CompleteWait=0
SchedulerParameters=batch_sched_delay=1,sched_interval=2
MailProg=/bin/true
GresTypes=gpu
NodeName=n1 Port={ports[1]} {node}
NodeName=n2 Port={ports[2]} {node}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP
"""
NODE = "NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=20000 Gres=gpu:1 Features=cc8.6"


def why_not():
    """Return why no cluster can be started here, or None if it can."""
    if os.geteuid() != 0:
        return "slurmd runs jobs as other users, so it needs root"
    # Without /usr/sbin in PATH there are no daemons for an ordinary user's shell.
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed: apt-get install {PACKAGES}"
    return None


def _path():
    return f"{os.environ['PATH']}:/usr/sbin"


class Cluster:
    """The running daemons; ``environment`` makes Slurm's commands use them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self._daemons = {}

    def start(self):
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        host = socket.gethostname().partition(".")[0]
        node = NODE.format(host=host)
        text = CONFIGURATION.format(folder=self.folder, host=host, ports=_free_ports(3), node=node)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # in place of a GPU
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        words = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self._daemon("munged", "munged", "--foreground", "--force", *words)
        _until(lambda: (self.folder / "munge.socket").exists(), "munged did not start")
        self._daemon("slurmctld", "slurmctld", "-D")
        for node in NODES:
            self.start_node(node)
        _until(lambda: self.said("sinfo", "-h", "-o", "%T") == "idle", "the nodes did not start")

    def start_node(self, node):
        self._daemon(node, "slurmd", "-D", "-N", node)

    def _daemon(self, name, *command):
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def said(self, *command):
        """Return what a command of Slurm prints."""
        env = {**os.environ, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        return done.stdout.strip()

    def lose(self, node):
        """Kill everything of the node at once, as if it had lost power."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()
        self._kill(node)

    def run_requeued(self):
        """Start what Slurm has requeued: it would wait for two minutes first."""
        listed = self.said("squeue", "-h", "-r", "-t", "PENDING", "-o", "%A|%r").splitlines()
        for number in [one.partition("|")[0] for one in listed if one.endswith("|BeginTime")]:
            self.said("scontrol", "update", f"JobId={number}", "StartTime=now")

    def stop(self):
        for name in (*NODES, "slurmctld", "munged"):
            if name in self._daemons:
                self._daemons[name].terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for node in NODES:
            self._kill(node)

    def _kill(self, node):
        """Kill the node's processes; stop all first, so that none sees another one end."""
        mine = {f"SLURMD_NODENAME={node}", f"SLURM_CONF={self.environment['SLURM_CONF']}"}
        found = _processes_with({os.fsencode(one) for one in mine})
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


def _processes_with(variables):
    """Return the processes of jobs with these variables, and the slurmstepd of each."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                if variables <= set((folder / "environ").read_bytes().split(b"\0")):
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    is_step = b"slurmstepd" in Path(f"/proc/{parent}/cmdline").read_bytes()
                    found |= {int(folder.name)} | ({parent} if is_step else set())
    return found


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _until(condition, problem, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(0.2)
