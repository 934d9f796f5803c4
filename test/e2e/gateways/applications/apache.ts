/** Apache with PHP, in the two ways that people run it: in Apache's own processes, and in a pool of PHP's beside its threads. */
import type { Application } from '../application.ts';
import type { Guest } from '../guest.ts';
import { get, visit } from '../http.ts';

const PORT = 80;
const PAGE = '/hello.php';
const FPM = 'php8.4-fpm';

async function prepare(vm: Guest, ...modules: string[]): Promise<void> {
  await vm.shell(`echo '<?php echo "hello from ", gethostname(), "\\n";' > /var/www/html${PAGE}`);
  await vm.shell('echo "KeepAliveTimeout 3600" > /etc/apache2/conf-available/keep-alive.conf');
  for (const command of ['a2enconf -q keep-alive', ...modules]) await vm.shell(command);
}

const common = {
  listens: [`tcp/${PORT}`],
  changed: 'KeepAliveTimeout is 3600 s: after Debian’s 5 s an idle connection is closed, parked or not.',
  connect: async (net) => {
    const connection = net.tcp(PORT);
    await get(connection, PAGE);
    return { connection, request: () => get(connection, PAGE), close: () => connection.close() };
  },
  visit: (net) => visit(net, PORT, PAGE),
} satisfies Partial<Application>;

export const applications: Application[] = [
  {
    ...common,
    name: 'Apache 2 + PHP, prefork with mod_php',
    packages: ['apache2', 'libapache2-mod-php'],
    units: ['apache2.service'],
    // Five spare processes beside the one that the client has; they are made one a second.
    isSettled: async (vm) => Number(await vm.shell('pgrep -c apache2')) >= 7,
    // The application below, before it on the same VM, has enabled PHP's pool.
    prepare: (vm) =>
      prepare(
        vm,
        `! a2query -q -c ${FPM} || a2disconf -q ${FPM}`,
        'a2dismod -q mpm_event',
        'a2enmod -q mpm_prefork php8.4',
      ),
  },
  {
    ...common,
    name: 'Apache 2 + PHP, event with php-fpm',
    packages: ['apache2', 'php-fpm'],
    units: ['apache2.service', `${FPM}.service`],
    prepare: (vm) =>
      prepare(
        vm,
        'a2dismod -q php8.4 mpm_prefork',
        'a2enmod -q mpm_event proxy_fcgi setenvif',
        `a2enconf -q ${FPM}`,
      ),
  },
];
