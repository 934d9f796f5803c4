/** A shell in a terminal, by whatever client: it must be the same shell from the first command to the last. */
import type { Session } from './application.ts';
import type { Connection } from './connection.ts';

/** @param connection of a client that has just been given a terminal */
export async function shellSession(connection: Connection): Promise<Session> {
  await connection.ask('SECRET=$((6*7)); PS1=ready:; stty -echo\n', /ready:/);
  let asked = 0;
  return {
    connection,
    // The shell's own variable.
    request: async () =>
      void (await connection.ask(
        `echo $SECRET:${++asked}:$(ls -d /etc)\n`,
        new RegExp(`42:${asked}:/etc\\r`),
      )),
    close: () => connection.close(),
  };
}
