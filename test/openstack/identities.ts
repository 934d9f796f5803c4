/** Keystone's users and tokens for the tests, made over its API as an operator makes them. */
import { randomBytes } from 'node:crypto';

export interface Identity {
  userId: string;
  projectId: string;
  name: string;
}

export type Json = Record<string, never> & Record<string, unknown>;

/** Keystone as its admin, or as whoever a token belongs to. */
export class Keystone {
  readonly url: string;
  readonly #admin: string;

  private constructor(url: string, admin: string) {
    this.url = url;
    this.#admin = admin;
  }

  static async open(url: string): Promise<Keystone> {
    return new Keystone(
      url,
      await passwordToken(url, { user: 'admin', password: 'admin', project: 'admin' }),
    );
  }

  get adminToken(): string {
    return this.#admin;
  }

  async make(what: string, body: object): Promise<string> {
    const made = await call<Record<string, { id: string }>>('POST', `${this.url}/${what}s`, this.#admin, {
      [what]: body,
    });
    return (made[what] as { id: string }).id;
  }

  async roleId(name: string): Promise<string> {
    const { roles } = await call<{ roles: { id: string; name: string }[] }>(
      'GET',
      `${this.url}/roles`,
      this.#admin,
    );
    return roles.find((role) => role.name === name)?.id ?? this.make('role', { name });
  }

  /** A user of its own project (or a given one) with these roles; its password is its name. */
  async user(name: string, roles: string[], project?: string): Promise<Identity> {
    const unique = `${name}-${randomBytes(3).toString('hex')}`;
    const projectId = project ?? (await this.make('project', { name: unique, domain_id: 'default' }));
    const userId = await this.make('user', { name: unique, password: unique, domain_id: 'default' });
    for (const role of roles) {
      const place = `projects/${projectId}/users/${userId}/roles/${await this.roleId(role)}`;
      await call('PUT', `${this.url}/${place}`, this.#admin);
    }
    return { userId, projectId, name: unique };
  }

  token({ name, projectId }: Identity): Promise<string> {
    return passwordToken(this.url, { user: name, password: name, projectId });
  }

  async applicationCredential(identity: Identity): Promise<{ id: string; secret: string }> {
    const url = `${this.url}/users/${identity.userId}/application_credentials`;
    const asked = { application_credential: { name: randomBytes(4).toString('hex') } };
    const made = await call<{ application_credential: { id: string; secret: string } }>(
      'POST',
      url,
      await this.token(identity),
      asked,
    );
    return made.application_credential;
  }

  async applicationToken(credential: { id: string; secret: string }): Promise<string> {
    const identity = { methods: ['application_credential'], application_credential: credential };
    return issue(this.url, { auth: { identity } });
  }

  /** All of them, as a change of password does. */
  async endTokensOf(identity: Identity): Promise<void> {
    const url = `${this.url}/users/${identity.userId}`;
    await call('PATCH', url, this.#admin, { user: { password: identity.name } });
  }

  async revoke(token: string): Promise<void> {
    await send('DELETE', `${this.url}/auth/tokens`, this.#admin, undefined, { 'x-subject-token': token });
  }
}

interface Login {
  user: string;
  password: string;
  project?: string;
  projectId?: string;
}

function passwordToken(url: string, { user, password, project, projectId }: Login): Promise<string> {
  const domain = { id: 'default' };
  return issue(url, {
    auth: {
      identity: { methods: ['password'], password: { user: { name: user, domain, password } } },
      scope: { project: projectId ? { id: projectId } : { name: project, domain } },
    },
  });
}

async function issue(url: string, body: object): Promise<string> {
  const reply = await send('POST', `${url}/auth/tokens`, null, body);
  return reply.headers.get('x-subject-token') as string;
}

export async function call<T = Json>(method: string, url: string, token: string, body?: object): Promise<T> {
  const text = await (await send(method, url, token, body)).text();
  return (text ? JSON.parse(text) : {}) as T;
}

async function send(
  method: string,
  url: string,
  token: string | null,
  body?: object,
  headers: Record<string, string> = {},
): Promise<Response> {
  const reply = await fetch(url, {
    method,
    signal: AbortSignal.timeout(60_000),
    headers: {
      ...(token ? { 'x-auth-token': token } : {}),
      'content-type': 'application/json',
      'openstack-api-version': 'compute 2.93',
      ...headers,
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  if (reply.ok) return reply;
  throw new Error(`${method} ${url}: ${reply.status} ${await reply.text()}`);
}
