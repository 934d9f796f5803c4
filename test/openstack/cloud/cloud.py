"""The cloud: starts everything in order and keeps it. PID 1 of its PID namespace, so that all ends with it.

Speaks JSON, one object a line. Says {"progress": …}, then {"ready": {…ports}} or {"failed": …}. Takes {"alarmEvent": {…}}:
an event for aodh's alarms, as Ceilometer would send it. Ends when its standard input does.
"""
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time

STATE, LOG, ETC = "/var/lib/cloud", "/var/log/cloud", "/etc/cloud"
DEADLINE_S = 120
os.environ.update({
    "HOME": STATE, "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "OS_KEYSTONE_CONFIG_FILES": f"{ETC}/keystone.conf", "OS_PLACEMENT_CONFIG_DIR": ETC,
})
NAMES = ["keystone", "placement", "aodh", "stub", "nova", "rabbit", "mariadb", "epmd", "dist"]
STARTED = time.monotonic()
running = {}


def say(**line):
    print(json.dumps(line), flush=True)


def progress(text):
    say(progress=f"{time.monotonic() - STARTED:.0f} s: {text}")


def free_ports(names):
    """All held at once, so that no two are the same."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: each.getsockname()[1] for name, each in zip(names, sockets)}
    for each in sockets:
        each.close()
    return ports


PORT = free_ports(NAMES)
URL = {name: f"http://127.0.0.1:{port}" for name, port in PORT.items()}
AMQP = f"amqp://guest:guest@127.0.0.1:{PORT['rabbit']}/"


def start(name, argv, **more):
    log = open(f"{LOG}/{name}.log", "ab")
    running[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)


def entry(module, name, function="main"):
    code = f"import sys; sys.argv[0] = {name!r}; from {module} import {function} as run; sys.exit(run())"
    return [sys.executable, "-c", code]


def run(name, argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S)
    if done.returncode:
        raise RuntimeError(f"{name} exited with {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")


def at_once(*jobs):
    failures = []

    def guarded(job):
        try:
            job()
        except Exception as error:  # Said by the caller.
            failures.append(error)
    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def wait_for_port(name):
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", PORT[name]), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"nobody listens at {name}'s port") from None
            process = running.get(name)
            if process and process.poll() is not None:
                tail = open(f"{LOG}/{name}.log").read()[-1500:]
                raise RuntimeError(f"{name} ended with {process.returncode}: {tail}") from None
            time.sleep(0.05)


def write(name, text):
    with open(f"{ETC}/{name}", "w") as file:
        file.write(text)


def with_wal(path):
    """Without it threads that write fail, “database is locked”."""
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = WAL")
    database.close()


def credentials(user):
    return (f"auth_type = password\nauth_url = {URL['keystone']}/v3\nwww_authenticate_uri = {URL['keystone']}/v3\n"
            f"username = {user}\npassword = {user}\nproject_name = service\n"
            "user_domain_id = default\nproject_domain_id = default\nregion_name = RegionOne\n")


def mysql(database):
    return f"mysql+pymysql://root@127.0.0.1:{PORT['mariadb']}/{database}?charset=utf8"


def configure():
    write("keystone.conf", f"""[DEFAULT]
log_file = {LOG}/keystone.log
[database]
connection = sqlite:///{STATE}/keystone.db
[token]
provider = fernet
[fernet_tokens]
key_repository = {STATE}/fernet
[credential]
key_repository = {STATE}/credential
[cache]
enabled = false
[identity]
password_hash_rounds = 4
""")
    write("placement.conf", f"""[DEFAULT]
log_file = {LOG}/placement.log
[placement_database]
connection = sqlite:///{STATE}/placement.db
[keystone_authtoken]
{credentials('placement')}""")
    write("nova.conf", f"""[DEFAULT]
transport_url = rabbit://guest:guest@127.0.0.1:{PORT['rabbit']}/
compute_driver = fake.FakeDriver
host = compute1
my_ip = 127.0.0.1
state_path = {STATE}/nova
enabled_apis = osapi_compute
osapi_compute_listen = 127.0.0.1
osapi_compute_listen_port = {PORT['nova']}
osapi_compute_workers = 1
[api]
auth_strategy = keystone
[wsgi]
api_paste_config = /etc/nova/api-paste.ini
[api_database]
connection = {mysql('nova_api')}
[database]
connection = {mysql('nova')}
[keystone_authtoken]
{credentials('nova')}
[service_user]
{credentials('nova')}
[placement]
{credentials('nova')}
[neutron]
endpoint_override = {URL['stub']}
{credentials('nova')}
[glance]
endpoint_override = {URL['stub']}
[conductor]
workers = 1
[scheduler]
workers = 1
[notifications]
notification_format = versioned
[oslo_messaging_notifications]
driver = messagingv2
[oslo_concurrency]
lock_path = {STATE}
""")
    write("aodh.conf", f"""[DEFAULT]
event_alarm_cache_ttl = 0
transport_url = rabbit://guest:guest@127.0.0.1:{PORT['rabbit']}/
log_dir = {LOG}
[database]
connection = {mysql('aodh')}
[keystone_authtoken]
{credentials('aodh')}
[service_credentials]
{credentials('aodh')}
""")
    # Its token check reads the file of its project, whatever it is told.
    os.makedirs("/etc/aodh", exist_ok=True)
    shutil.copy(f"{ETC}/aodh.conf", "/etc/aodh/aodh.conf")
    write("rabbitmq.conf", f"listeners.tcp.1 = 127.0.0.1:{PORT['rabbit']}\nloopback_users = none\n")
    write("advanced.config", "[].\n")


def start_rabbit():
    os.makedirs(f"{STATE}/rabbit", exist_ok=True)
    start("rabbit", ["/usr/lib/rabbitmq/bin/rabbitmq-server"], env={
        **os.environ, "RABBITMQ_NODENAME": "cloud@localhost", "RABBITMQ_MNESIA_BASE": f"{STATE}/rabbit",
        "RABBITMQ_LOG_BASE": LOG, "RABBITMQ_CONFIG_FILE": f"{ETC}/rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{ETC}/none",
        "RABBITMQ_DIST_PORT": str(PORT["dist"]), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(PORT["epmd"]),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    })
    wait_for_port("rabbit")
    progress("RabbitMQ listens")


def start_mariadb():
    data = f"{STATE}/mariadb"
    run("mariadb-install-db", ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}",
                               "--auth-root-authentication-method=normal", "--skip-test-db"])
    start("mariadb", ["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={STATE}/mariadb.sock",
                      "--bind-address=127.0.0.1", f"--port={PORT['mariadb']}", "--skip-name-resolve", "--max-connections=500",
                      "--innodb-flush-log-at-trx-commit=0", "--character-set-server=utf8"])
    wait_for_port("mariadb")
    sql = "".join(f"CREATE DATABASE {name};" for name in ["nova_api", "nova_cell0", "nova", "aodh"])
    run("mariadb", ["mariadb", "--no-defaults", f"--socket={STATE}/mariadb.sock", "-e", sql])
    progress("MariaDB listens")


def keystone_manage(*arguments):
    run("keystone-manage", [*entry("keystone.cmd.manage", "keystone-manage"), "--config-file", f"{ETC}/keystone.conf", *arguments])


def start_keystone():
    keystone_manage("db_sync")
    with_wal(f"{STATE}/keystone.db")
    for what in ["fernet", "credential"]:
        os.makedirs(f"{STATE}/{what}", mode=0o700)
        keystone_manage(f"{what}_setup", "--keystone-user", "root", "--keystone-group", "root")
    urls = [part for which in ["admin", "internal", "public"] for part in [f"--bootstrap-{which}-url", f"{URL['keystone']}/v3"]]
    keystone_manage("bootstrap", "--bootstrap-password", "admin", "--bootstrap-region-id", "RegionOne", *urls)
    start("keystone", [sys.executable, "/cloud/wsgi.py", "keystone", str(PORT["keystone"])])
    wait_for_port("keystone")
    progress("Keystone listens")
    fill_keystone()
    progress("Keystone has its services")


def admin(name="admin", project="admin"):
    from keystoneauth1 import session
    from keystoneauth1.identity import v3
    auth = v3.Password(auth_url=f"{URL['keystone']}/v3", username=name, password=name, project_name=project,
                       user_domain_id="default", project_domain_id="default")
    return session.Session(auth, timeout=60)


def fill_keystone():
    keystone = admin()

    def make(what, **body):
        return keystone.post(f"{URL['keystone']}/v3/{what}s", json={what: body}).json()[what]["id"]

    def roles():
        listed = keystone.get(f"{URL['keystone']}/v3/roles").json()["roles"]
        return {role["name"]: role["id"] for role in listed}
    if "service" not in roles():
        make("role", name="service")
    role = roles()
    project = make("project", name="service", domain_id="default")
    for name in ["nova", "placement", "aodh"]:
        user = make("user", name=name, password=name, domain_id="default")
        for given in ["service", "admin"]:
            keystone.put(f"{URL['keystone']}/v3/projects/{project}/users/{user}/roles/{role[given]}")
    catalog = {"compute": f"{URL['nova']}/v2.1", "placement": URL["placement"], "alarming": URL["aodh"],
               "network": URL["stub"], "image": URL["stub"]}
    for kind, url in catalog.items():
        service = make("service", type=kind, name=kind)
        for interface in ["public", "internal", "admin"]:
            make("endpoint", service_id=service, interface=interface, url=url, region_id="RegionOne")


def start_placement():
    manage = entry("placement.cmd.manage", "placement-manage")
    run("placement-manage", [*manage, "--config-file", f"{ETC}/placement.conf", "db", "sync"])
    with_wal(f"{STATE}/placement.db")
    start("placement", [sys.executable, "/cloud/wsgi.py", "placement", str(PORT["placement"])])
    start("stub", [sys.executable, "/cloud/wsgi.py", "stub", str(PORT["stub"])])
    wait_for_port("placement")


def nova_manage(*arguments):
    run("nova-manage", [*entry("nova.cmd.manage", "nova-manage"), "--config-file", f"{ETC}/nova.conf", *arguments])


def sync_nova():
    nova_manage("api_db", "sync")
    nova_manage("cell_v2", "map_cell0")
    nova_manage("cell_v2", "create_cell", "--name", "cell1")
    nova_manage("db", "sync")
    progress("Nova has its databases")


def start_nova():
    os.makedirs(f"{STATE}/nova/instances", exist_ok=True)
    for name, module in [("nova-conductor", "conductor"), ("nova-scheduler", "scheduler"), ("nova", "api_os_compute"),
                         ("nova-compute", "compute")]:
        start(name, [*entry(f"nova.cmd.{module}", name), "--config-file", f"{ETC}/nova.conf"])
    wait_for_port("nova")
    progress("Nova listens")
    find_host()
    progress("Nova has found its host")


def find_host():
    """A server that is asked for before Placement knows what the host has, and Nova in which cell it is, goes to ERROR."""
    placement = admin("nova", "service")
    deadline = time.monotonic() + DEADLINE_S
    what = {"OpenStack-API-Version": "placement 1.10"}
    while not placement.get(f"{URL['placement']}/resource_providers?resources=VCPU:1", headers=what).json()["resource_providers"]:
        if time.monotonic() > deadline:
            raise RuntimeError("nova-compute has not told Placement what it has")
        time.sleep(0.2)
    nova_manage("cell_v2", "discover_hosts", "--strict")


def sync_aodh():
    run("aodh-dbsync", [*entry("aodh.cmd.storage", "aodh-dbsync", "dbsync"), "--config-file", f"{ETC}/aodh.conf"])


def start_aodh():
    start("aodh", [sys.executable, "/cloud/wsgi.py", "aodh", str(PORT["aodh"])])
    for name in ["listener", "notifier"]:
        start(f"aodh-{name}", [*entry("aodh.cmd.alarm", f"aodh-{name}", name), "--config-file", f"{ETC}/aodh.conf"])
    wait_for_port("aodh")
    progress("aodh listens")


def send_alarm_event(event):
    import oslo_messaging
    from oslo_config import cfg
    transport = oslo_messaging.get_notification_transport(cfg.ConfigOpts(), url=f"rabbit://guest:guest@127.0.0.1:{PORT['rabbit']}/")
    notifier = oslo_messaging.Notifier(transport, driver="messagingv2", publisher_id="ceilometer", topics=["alarm.all"])
    notifier.sample({}, "event", [event])


def main():
    configure()
    at_once(start_rabbit, start_mariadb, start_keystone)
    at_once(start_placement, lambda: (sync_nova(), sync_aodh()))
    at_once(start_nova, start_aodh)
    say(ready={"keystone": f"{URL['keystone']}/v3", "nova": f"{URL['nova']}/v2.1", "aodh": URL["aodh"], "amqp": AMQP,
               "imageId": "11111111-1111-4111-8111-111111111111"})
    for line in sys.stdin:
        send_alarm_event(json.loads(line)["alarmEvent"])
        say(sent=True)


status = 0
try:
    main()
except Exception as error:  # Whoever started the cloud tells it.
    status = 1
    try:
        say(failed=str(error))
    except OSError:
        pass
os._exit(status)  # At once: what a library has left running would keep all the others.
