"""Fetches one file of a project from the package index that pip would use, and checks its hash.

Arguments: project, file name, sha256, destination. Used on machines without pip.
"""
import configparser
import hashlib
import os
import re
import sys
import urllib.parse
import urllib.request

project, name, sha256, destination = sys.argv[1:]

config = configparser.ConfigParser(interpolation=None)
home = os.path.expanduser("~")
config.read(["/etc/pip.conf", f"{home}/.pip/pip.conf", f"{home}/.config/pip/pip.conf", os.environ.get("PIP_CONFIG_FILE", "")])
index = os.environ.get("PIP_INDEX_URL") or config.get("global", "index-url", fallback="https://pypi.org/simple")


def get(url):
    with urllib.request.urlopen(url, timeout=120) as response:
        return response.read(), response.geturl()


page, base = get(f"{index.rstrip('/')}/{project}/")
link = re.search(rf'href="([^"]*/{re.escape(name)})(?:#[^"]*)?"', page.decode())
if not link:
    sys.exit(f"{index} has no {name}")
wheel, _ = get(urllib.parse.urljoin(base, link[1]))
if hashlib.sha256(wheel).hexdigest() != sha256:
    sys.exit(f"{name} of {index}: unexpected sha256")
with open(destination, "wb") as file:
    file.write(wheel)
