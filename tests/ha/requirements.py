"""Prints what Home Assistant would install by itself at its first start with the given integrations.

Run by the Python that has `homeassistant`:  python requirements.py mqtt
Home Assistant's own manifests are read, so that this stays right when the release changes.
"""

import json
import pathlib
import sys

import homeassistant
from homeassistant import bootstrap

# Packages without wheels that only the voice assistant uses; they would need a C++ compiler.
LEFT_OUT = ("pymicro-vad", "pyspeex-noise")
# The settings dialogue of MQTT imports the Supervisor's client, also where there is no Supervisor.
ALWAYS = {"api", "config", "hassio", "onboarding", "websocket_api"}


def manifest(integration):
    path = pathlib.Path(homeassistant.__file__).parent / "components" / integration / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else {}


def requirements(integrations):
    """Requirements of these integrations and of those that they depend on."""
    waiting, known, found = list(integrations), set(), set()
    while waiting:
        integration = waiting.pop()
        if integration not in known:
            known.add(integration)
            data = manifest(integration)
            found.update(data.get("requirements", []))
            waiting.extend(data.get("dependencies", []))
    return found


if __name__ == "__main__":
    wanted = set(bootstrap.DEFAULT_INTEGRATIONS) | set(bootstrap.CORE_INTEGRATIONS) | ALWAYS | set(sys.argv[1:])
    lines = sorted(line for line in requirements(wanted) if not line.startswith(LEFT_OUT))
    print("\n".join(lines))
