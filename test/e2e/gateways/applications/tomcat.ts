/** Tomcat: a Java virtual machine with dozens of threads, which looks at its files every ten seconds. */
import type { Application } from '../application.ts';
import { get, visit } from '../http.ts';

const PORT = 8080;
const PAGE = '/hello.jsp';

export const applications: Application[] = [
  {
    name: 'Tomcat 10',
    packages: ['tomcat10'],
    units: ['tomcat10.service'],
    listens: [`tcp/${PORT}`],
    // Three looks at its files, which profiles/apps.yaml answers.
    idleSeconds: 31,
    changed: 'keepAliveTimeout is an hour: after Tomcat’s 20 s an idle connection is closed, parked or not.',
    async prepare(vm) {
      const attribute = 'keepAliveTimeout="3600000"';
      await vm.shell(
        `grep -q ${attribute} /etc/tomcat10/server.xml || sed -i 's/connectionTimeout=/${attribute} &/' /etc/tomcat10/server.xml`,
      );
      // It reads a file: Tomcat looks only every four seconds whether a page has changed, and what it has in memory the sink would answer.
      const page =
        'hello from <%= java.nio.file.Files.readString(java.nio.file.Path.of("/etc/hostname")).strip() %>';
      await vm.shell(`echo '${page}' > /var/lib/tomcat10/webapps/ROOT${PAGE}`);
    },
    // The access log is written out by the thread that looks every ten seconds.
    isSettled: async (vm) => (await vm.shell('cat /var/log/tomcat10/localhost_access_log.*')).includes(PAGE),
    connect: async (net) => {
      const connection = net.tcp(PORT);
      await get(connection, PAGE);
      return { connection, request: () => get(connection, PAGE), close: () => connection.close() };
    },
    visit: (net) => visit(net, PORT, PAGE),
  },
];
