/** What the clients saw of all that was done to the VM; what they should not have seen is a fault. */
import { wireFacts } from './observe.ts';
import type { ClientReport } from './report.ts';
import type { Stage } from './stage.ts';

export function clientReports(stage: Stage): { reports: ClientReport[]; faults: string[] } {
  const reports = stage.clients.map((client): ClientReport => {
    const { name, kind, linesSent } = client;
    const facts = wireFacts(stage.wire.packets, stage.address, client.port);
    return { name, kind, linesSent, linesReceived: client.linesReceived(), ...facts };
  });
  const ended = stage.clients
    .filter(({ terminal }) => terminal.exited !== null)
    .map(({ name, terminal }) => `${name}: ended (${terminal.exited})`);
  const seen = reports.flatMap(({ name, kind, resets, fins, reconnects, linesSent, linesReceived }) => [
    ...(resets + fins + reconnects > 0
      ? [`${name}: ${resets} resets, ${fins} FINs, ${reconnects} reconnects reached it; expected none`]
      : []),
    ...(kind !== 'ping' && linesReceived !== linesSent
      ? [`${name}: ${linesReceived} of ${linesSent} lines were answered`]
      : []),
  ]);
  return { reports, faults: [...stage.echo.faults(), ...ended, ...seen] };
}
