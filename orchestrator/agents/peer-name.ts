/** The name in an agent's certificate: its role and its own name; the configuration may leave the role out. */
export function peerName(role: 'vm-agent' | 'sink-agent', serverName: string): string {
  return serverName.startsWith(`${role}:`) ? serverName : `${role}:${serverName}`;
}
