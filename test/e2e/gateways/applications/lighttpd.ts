/** lighttpd with PHP by FastCGI, whose processes it starts itself. */
import type { Application } from '../application.ts';
import { get, visit } from '../http.ts';

const PORT = 80;
const PAGE = '/hello.php';

export const applications: Application[] = [
  {
    name: 'lighttpd + PHP (FastCGI)',
    packages: ['lighttpd', 'php-cgi'],
    units: ['lighttpd.service'],
    listens: [`tcp/${PORT}`],
    changed:
      'server.max-keep-alive-idle is 3600 s: after Debian’s 5 s an idle connection is closed, parked or not.',
    async prepare(vm) {
      await vm.shell(`echo '<?php echo "hello from ", gethostname(), "\\n";' > /var/www/html${PAGE}`);
      await vm.shell(
        'echo "server.max-keep-alive-idle = 3600" > /etc/lighttpd/conf-enabled/90-keep-alive.conf',
      );
      await vm.shell('lighty-enable-mod fastcgi fastcgi-php || test $? = 2'); // 2: it was enabled
    },
    connect: async (net) => {
      const connection = net.tcp(PORT);
      await get(connection, PAGE);
      return { connection, request: () => get(connection, PAGE), close: () => connection.close() };
    },
    visit: (net) => visit(net, PORT, PAGE),
  },
];
