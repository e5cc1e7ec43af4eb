"""Keystone and Heat with PostgreSQL, for tests: start.py DIRECTORY KEYSTONE_PORT HEAT_PORT TOKEN_SECONDS

Everything lies in DIRECTORY; all processes end with this one. Writes the file DIRECTORY/ready when both answer, with how long
that took; DIRECTORY/*.log say why not.
"""

import glob
import os
import pwd
import subprocess
import sys
import time

directory, keystone_port, heat_port, token_seconds = sys.argv[1:5]
here = os.path.dirname(os.path.abspath(__file__))
begun = time.time()


def child(command, log, **more):
    """A process that ends with this one."""
    file = open(os.path.join(directory, log), "w")
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, **more
    )


def await_line(process, log, line):
    """Waits until a process says something."""
    path = os.path.join(directory, log)
    while line not in open(path).read().splitlines():
        if process.poll() is not None:
            sys.exit(f"{log}: ended with {process.returncode}\n{open(path).read()[-4000:]}")
        time.sleep(0.05)


def database():
    """PostgreSQL as a user without privileges: it refuses root. Returns the URL."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not programs:
        sys.exit("there is no PostgreSQL in /usr/lib/postgresql")
    folder = os.path.join(directory, "postgresql")
    os.makedirs(folder)
    user = []
    name = pwd.getpwuid(os.getuid()).pw_name
    if os.getuid() == 0:
        name = "postgres"
        account = pwd.getpwnam(name)
        os.chown(folder, account.pw_uid, account.pw_gid)
        os.chmod(directory, 0o755)
        user = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    programs = os.path.dirname(programs[-1])
    made = child([*user, f"{programs}/initdb", "-N", "-A", "trust", "-U", name, "-D", f"{folder}/data"], "initdb.log")
    if made.wait() != 0:
        sys.exit(open(os.path.join(directory, "initdb.log")).read())
    options = ["-c", "fsync=off", "-c", "max_connections=200", "-c", "listen_addresses=", "-k", folder]
    server = child([*user, f"{programs}/postgres", "-D", f"{folder}/data", *options], "postgresql.log")
    while subprocess.call(
        [f"{programs}/createdb", "-h", folder, "-U", name, "heat"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ):
        if server.poll() is not None:
            sys.exit(open(os.path.join(directory, "postgresql.log")).read())
        time.sleep(0.1)
    return server, f"postgresql+psycopg2://{name}@/heat?host={folder}"


environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower() and not key.startswith("OS_")}
arguments = [sys.executable, f"{here}/keystone_server.py", directory, keystone_port, heat_port, token_seconds]
keystone = child(arguments, "keystone.log", env=environment)
postgresql, url = database()
# Its engine asks for a token as soon as it starts.
await_line(keystone, "keystone.log", "ready")
# With short tokens Heat asks about each, so that one that was taken back is noticed at once.
check_always = "yes" if int(token_seconds) < 300 else "no"
arguments = [sys.executable, f"{here}/heat_server.py", directory, heat_port, keystone_port, url, check_always]
heat = child(arguments, "heat.log", env=environment)
await_line(heat, "heat.log", "ready")
with open(os.path.join(directory, "ready.new"), "w") as file:
    file.write(f"{time.time() - begun:.1f}\n")
os.rename(os.path.join(directory, "ready.new"), os.path.join(directory, "ready"))

# Whoever goes takes the others along.
for process in iter(lambda: [p for p in (keystone, postgresql, heat) if p.poll() is not None], None):
    if process:
        sys.exit(1)
    time.sleep(0.5)
