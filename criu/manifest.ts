/**
 * The manifest of an image: what CRIU's own files do not say, and the other side must know.
 *
 * An image is a folder: `manifest.json` and one sub-folder of CRIU files per process tree. It is written by the
 * side that dumps (vm-agent when parking, sink-agent when unparking) and read by the side that restores.
 */

export const MANIFEST_VERSION = 1;

/** The VM's presence on the production network, to be taken on by the sink. */
export interface NetworkIdentity {
  hostname: string;
  interfaces: NetworkInterface[];
  /** Routes over these interfaces, as `ip route` prints destinations (`default`, `10.0.0.0/8`, `fd00::/64`). */
  routes: { destination: string; interface: string; gateway?: string; source?: string }[];
  /** Known neighbours, copied so that the first packet waits for no ARP or neighbour discovery. */
  neighbours: { address: string; mac: string; interface: string }[];
  /** Values of `NETWORK_SETTINGS` (criu/network-settings.ts) that the VM's kernel has. */
  settings?: Record<string, string>;
}

export interface NetworkInterface {
  name: string;
  mac: string;
  mtu: number;
  /** With prefix length: `10.77.0.11/24`, `fd77::11/64`; no link-local ones. */
  addresses: string[];
  /** The link-local ones, likewise. */
  linkLocal?: string[];
}

/** One process tree; CRIU dumps and restores it as a whole. */
export interface ProcessTree {
  /** Sub-folder of the image with CRIU's files. */
  folder: string;
  root: number;
  processes: TreeProcess[];
  /** Ends of the tree that stay in the VM and are put back on each side. */
  externals: External[];
  /** Set when the unit has mount or UTS namespaces of its own (PrivateTmp=, ProtectHostname=). */
  namespaces: ('mnt' | 'uts')[];
  /** Unix sockets that the tree has bound to paths; a restore binds them anew. */
  boundSockets?: string[];
  /** It has netlink sockets: in a sink these hear of another network, and are drained before the way back. */
  netlink?: boolean;
  /** The session of its root has no leader any more: a daemon that has forked twice. Each restore puts it into one that soon has none either. */
  leaderless?: boolean;
  /** What it watches by inotify (criu/watches.ts); among `files`, since a restore watches by path. */
  watchedPaths?: string[];
}

export interface TreeProcess {
  pid: number;
  parent: number;
  program: string;
  /** cgroup path in the VM (v2), where the process is put back after its return. */
  cgroup: string;
}

/** A descriptor whose other end stays in the VM. */
export interface External {
  /** What it is: decides how each side makes a fresh end for it. */
  kind: 'journal-stream' | 'session-fifo' | 'device';
  /** systemd unit or logind session that it belongs to; of a device its path, which each side opens anew. */
  owner: string;
  /** CRIU's name of it in *this* image: the value of `--external` at the dump and the key of `--inherit-fd` at the restore. */
  dumpKey: string;
  restoreKey: string;
  /** Where it is open; in a sink any use of it is activity. */
  descriptors: { pid: number; fd: number }[];
  /** Of a journal stream: how journald labels what comes through it. */
  journal?: { identifier: string; unit: string; priority: number; levelPrefix: boolean };
}

/** A file that the processes hold or map; the sink has a dummy of the same size, mode and owner in its place. */
export interface HeldFile {
  path: string;
  type: 'file' | 'directory' | 'fifo' | 'socket' | 'char' | 'symlink';
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Seconds since the epoch; part of the comparison with the template. */
  mtime: number;
  /** True for mapped executables and libraries: the template's own file is used, and must be the same. */
  executable: boolean;
  /** A profile lets processes look at it in the sink (criu/answers.ts): there it is exactly as described here. */
  answered?: boolean;
  /** Of an answered file, as `mtime` but exact: `1732190400.123456789`. */
  mtimeExact?: string;
  /** Of an answered file that may be read: its bytes, base64. Without them it can't be opened in the sink. */
  content?: string;
  /** Of an answered symbolic link. */
  target?: string;
}

export interface Listener {
  protocol: 'tcp' | 'udp';
  address: string;
  port: number;
  pid: number;
  program: string;
  /** The other ends of its open connections, of TCP; named once per port. */
  clients?: { address: string; port: number }[];
}

/** Of the production network; `local` is the VM's end. */
export interface TcpConnection {
  local: { address: string; port: number };
  remote: { address: string; port: number };
}

export interface Manifest {
  version: typeof MANIFEST_VERSION;
  imageId: string;
  /** Of an image of the way back: the VM's own image that these processes came from. */
  originId?: string;
  /** Set when pages are missing that this image has: see criu/delta.ts. */
  parentId?: string;
  vm: string;
  templateId: string;
  criuVersion: string;
  network: NetworkIdentity;
  trees: ProcessTree[];
  files: HeldFile[];
  listeners: Listener[];
  /** Those that no process has any more, which stay with the VM's kernel. */
  lingering?: TcpConnection[];
}
