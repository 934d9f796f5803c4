/** The six applications of the paper's table 3.1, as the gateway tests run them. */
import type { Application } from '../../test/e2e/gateways/application.ts';
import { applications as apache } from '../../test/e2e/gateways/applications/apache.ts';
import { applications as dropbear } from '../../test/e2e/gateways/applications/dropbear.ts';
import { applications as lighttpd } from '../../test/e2e/gateways/applications/lighttpd.ts';
import { applications as openssh } from '../../test/e2e/gateways/applications/openssh.ts';
import { applications as tomcat } from '../../test/e2e/gateways/applications/tomcat.ts';
import { applications as vsftpd } from '../../test/e2e/gateways/applications/vsftpd.ts';

export interface BenchApplication {
  /** As the paper calls it. */
  name: string;
  /** On the command line: `--only tomcat`. */
  key: string;
  application: Application;
  /** Of its service: what a response is recognised by. */
  port: number;
}

export const APPLICATIONS: readonly BenchApplication[] = [
  { name: 'Dropbear', key: 'dropbear', application: only(dropbear, 'pty'), port: 2222 },
  { name: 'Vsftpd', key: 'vsftpd', application: only(vsftpd, 'logged-in'), port: 21 },
  { name: 'OpenSSH', key: 'openssh', application: only(openssh, 'pty'), port: 22 },
  { name: 'Lighttpd/PHP', key: 'lighttpd', application: only(lighttpd, 'lighttpd'), port: 80 },
  { name: 'Apache2/PHP', key: 'apache', application: only(apache, 'mod_php'), port: 80 },
  { name: 'Tomcat', key: 'tomcat', application: only(tomcat, 'Tomcat'), port: 8080 },
];

/** Also of apache with php-fpm, which is in the same file: its unit must be there to be stopped. */
const INSTALLED = [dropbear, vsftpd, openssh, lighttpd, apache, tomcat].flat();

export const PACKAGES = [...new Set(INSTALLED.flatMap(({ packages }) => packages))].sort();
export const ALL_UNITS = [...new Set(INSTALLED.flatMap(({ units }) => units))];

function only(applications: readonly Application[], word: string): Application {
  const found = applications.find(({ name }) => name.includes(word));
  if (found) return found;
  throw new Error(`Expected an application ${word}, got ${applications.map(({ name }) => name).join(', ')}`);
}
