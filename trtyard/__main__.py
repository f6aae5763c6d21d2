"""What ``run`` executes: the tasks of this repository, from any current folder."""

import sys
from pathlib import Path

# run starts Python isolated (-I), so that nothing in the user's folder or PYTHONPATH stands in
# front of the tools; this repository is then not on the path by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trtyard.cli.damaged import restart
from trtyard.system.terminal import open_streams

HAS_STDOUT = open_streams()
try:
    from trtyard.cli.command import main
except Exception as error:
    restart(error)

main(has_stdout=HAS_STDOUT)
