/** What a host says of itself: one command there, with a shell and coreutils alone, that prints `key value` lines. */
import type { HostTransport } from '../host/transport.ts';

export interface HostFacts {
  kernel: string;
  tools: Record<string, boolean>;
  /** `y`, `m`, `n`; empty without the kernel's configuration. */
  options: Record<string, string>;
  swaps: { path: string; kib: number; medium: string }[];
  memoryKib: number;
  /** `v2`, `v1`, or `none`. */
  cgroup: string;
  hasFreezer: boolean;
  /** Of the host's clock against ours, in milliseconds; known to half a round trip. */
  skewMs: number;
  skewWithinMs: number;
}

const TOOLS = ['iptables', 'ip6tables', 'ip', 'bridge', 'nsenter', 'timeout', 'setsid'] as const;
const OPTIONS = [
  'NETFILTER_NETLINK_QUEUE',
  'NETFILTER_XT_TARGET_NFQUEUE',
  'BRIDGE_NETFILTER',
  'MEMCG',
  'SWAP',
  'CHECKPOINT_RESTORE',
  'UNIX_DIAG',
  'INET_DIAG',
  'INET_UDP_DIAG',
  'PACKET_DIAG',
  'NETLINK_DIAG',
  'NET_NS',
  'PID_NS',
] as const;

export async function hostFacts(host: HostTransport): Promise<HostFacts> {
  await host.run(['true']); // the connection is made before the clock is looked at
  const clock = await clockOf(host);
  const script = SCRIPT.replace('TOOLS', TOOLS.join(' ')).replace('OPTIONS', OPTIONS.join(' '));
  const { stdout } = await host.run(['sh', '-c', script], { timeoutMs: 20_000 });
  return { ...parseFacts(stdout), ...clock };
}

/** Exported for its test. */
export function parseFacts(said: string): Omit<HostFacts, 'skewMs' | 'skewWithinMs'> {
  const facts: ReturnType<typeof parseFacts> = {
    ...{ kernel: '', tools: {}, options: {}, swaps: [], memoryKib: 0, cgroup: 'none', hasFreezer: false },
  };
  for (const line of said.split('\n')) {
    const [key, first = '', second = '', third = ''] = line.split(' ');
    if (key === 'kernel') facts.kernel = first;
    if (key === 'tool') facts.tools[first] = second === 'yes';
    if (key === 'option') facts.options[first] = second;
    if (key === 'swap') facts.swaps.push({ path: first, kib: Number(second), medium: third });
    if (key === 'memory') facts.memoryKib = Number(first);
    if (key === 'cgroup') facts.cgroup = first;
    if (key === 'freezer') facts.hasFreezer = true;
  }
  return facts;
}

async function clockOf(host: HostTransport): Promise<Pick<HostFacts, 'skewMs' | 'skewWithinMs'>> {
  const before = Date.now();
  const { stdout } = await host.run(['date', '+%s%3N']);
  const after = Date.now();
  return { skewMs: Number(stdout) - (before + after) / 2, skewWithinMs: (after - before) / 2 };
}

const SCRIPT = `
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
echo "kernel $(uname -r)"
has() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
for tool in TOOLS; do echo "tool $tool $(has command -v "$tool")"; done
library() { ldconfig -p | grep -q libnetfilter_queue.so.1; }
echo "tool libnetfilter_queue $(has library)"
config=$(zcat /proc/config.gz 2>/dev/null || cat "/boot/config-$(uname -r)" 2>/dev/null)
if [ -n "$config" ]; then
  for option in OPTIONS; do
    value=$(printf '%s\\n' "$config" | sed -n "s/^CONFIG_$option=//p")
    echo "option $option \${value:-n}"
  done
fi
medium() {
  device=$1
  [ -b "$device" ] || device=$(df --output=source "$1" 2>/dev/null | tail -n 1)
  name=$(basename "$(readlink -f "$device" 2>/dev/null)")
  case $name in zram*) echo compressed-memory; return;; esac
  for queue in "/sys/class/block/$name/queue" "/sys/class/block/$name/../queue"; do
    [ -r "$queue/rotational" ] || continue
    if [ "$(cat "$queue/rotational")" = 0 ]; then echo solid-state; else echo rotating; fi
    return
  done
  echo unknown-medium
}
tail -n +2 /proc/swaps | while read -r path kind size rest; do echo "swap $path $size $(medium "$path")"; done
echo "memory $(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)"
if [ -d /sys/fs/cgroup/memory ]; then echo 'cgroup v1'; elif [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo 'cgroup v2'; fi
for root in /sys/fs/cgroup /sys/fs/cgroup/unified; do [ ! -e "$root/cgroup.controllers" ] || echo freezer; done`;
