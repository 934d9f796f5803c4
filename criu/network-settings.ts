/**
 * The kernel's settings by which a host is known on the wire, as paths below /proc/sys/net: read in the VM, set in its sink, so that the
 * sink's stack answers as the VM's would. `IFACE` stands for the interface. What is not on this list is never set.
 */
export const NETWORK_SETTINGS: readonly string[] = [
  // What is answered at all.
  ...['all', 'broadcasts'].map((which) => `ipv4/icmp_echo_ignore_${which}`),
  ...['all', 'multicast', 'anycast'].map((which) => `ipv6/icmp/echo_ignore_${which}`),
  'ipv4/icmp_errors_use_inbound_ifaddr',
  ...['arp_ignore', 'arp_announce', 'arp_filter', 'rp_filter', 'drop_unicast_in_l2_multicast'].map(
    (which) => `ipv4/conf/IFACE/${which}`,
  ),
  ...['hop_limit', 'accept_source_route', 'ndisc_tclass'].map((which) => `ipv6/conf/IFACE/${which}`),
  // How often.
  ...['icmp_ratelimit', 'icmp_ratemask', 'icmp_msgs_per_sec', 'icmp_msgs_burst'].map(
    (which) => `ipv4/${which}`,
  ),
  ...['ratelimit', 'ratemask'].map((which) => `ipv6/icmp/${which}`),
  ...['tcp_challenge_ack_limit', 'tcp_invalid_ratelimit'].map((which) => `ipv4/${which}`),
  // How packets look.
  'ipv4/ip_default_ttl',
  'ipv4/ip_no_pmtu_disc',
  'ipv6/auto_flowlabels',
  'ipv6/flowlabel_reflect',
  ...['timestamps', 'window_scaling', 'sack', 'dsack', 'ecn', 'reflect_tos', 'base_mss', 'min_snd_mss'].map(
    (which) => `ipv4/tcp_${which}`,
  ),
  // What a connection does by itself.
  ...['keepalive_time', 'keepalive_intvl', 'keepalive_probes', 'retries1', 'retries2', 'orphan_retries'].map(
    (which) => `ipv4/tcp_${which}`,
  ),
  ...['fin_timeout', 'rfc1337', 'synack_retries', 'syncookies', 'abort_on_overflow', 'mtu_probing'].map(
    (which) => `ipv4/tcp_${which}`,
  ),
  ...['congestion_control', 'slow_start_after_idle', 'rmem', 'wmem', 'moderate_rcvbuf'].map(
    (which) => `ipv4/tcp_${which}`,
  ),
];

/** Path of a setting for one interface. */
export function settingPath(setting: string, device: string): string {
  return `/proc/sys/net/${setting.replace('IFACE', device)}`;
}
