/**
 * An identity at Keystone, by an application credential: a token that is renewed before it expires, and the catalog.
 * Many who ask at once share one request; a service that answers 401 is asked once more with a new token.
 */
import { SeamlessError } from '../../common/errors.ts';
import { type CloudReply, type CloudRequest, cloudRequest, statusOf } from './request.ts';

export interface KeystoneOptions {
  authUrl: string;
  credential: { id: string; secret: string };
  region?: string | undefined;
  interface?: 'public' | 'internal' | 'admin' | undefined;
  now?: () => number;
}

interface Token {
  id: string;
  expiresMs: number;
  projectId: string | null;
  catalog: readonly { type: string; endpoints: readonly Endpoint[] }[];
}

interface Endpoint {
  interface: string;
  region_id: string;
  url: string;
}

/** Renewed so long before its end, that no request starts with a token that expires under way. */
const RENEW_BEFORE_MS = 5 * 60_000;

export class KeystoneSession {
  readonly #options: KeystoneOptions;
  readonly #now: () => number;
  #token: Token | null = null;
  #asking: Promise<Token> | null = null;

  constructor(options: KeystoneOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  get authUrl(): string {
    return this.#options.authUrl.replace(/\/$/, '');
  }

  /** Sends it with a token. */
  async request(request: CloudRequest): Promise<CloudReply> {
    const { id } = await this.#current();
    try {
      return await cloudRequest(withToken(request, id));
    } catch (error) {
      if (statusOf(error) !== 401) throw error;
      if (this.#token?.id === id) this.#token = null; // It was revoked.
      return cloudRequest(withToken(request, (await this.#current()).id));
    }
  }

  /** The project that this identity acts in; null when it has none. */
  async projectId(): Promise<string | null> {
    return (await this.#current()).projectId;
  }

  /** Where a service is, by the catalog; without a slash at its end. */
  async endpoint(type: string): Promise<string> {
    const { region, interface: wanted = 'public' } = this.#options;
    const { catalog } = await this.#current();
    const places = catalog.filter((service) => service.type === type).flatMap(({ endpoints }) => endpoints);
    const place = places.find((each) => each.interface === wanted && (!region || each.region_id === region));
    if (place) return place.url.replace(/\/$/, '');
    const known = places.map((each) => `${each.interface} in ${each.region_id}`).join(', ') || 'none';
    throw new SeamlessError(
      'CLOUD_REFUSED',
      `Expected an endpoint of “${type}” (${wanted}${region ? ` in ${region}` : ''}) in Keystone’s catalog, got ${known}`,
    );
  }

  async #current(): Promise<Token> {
    if (this.#token && this.#token.expiresMs - RENEW_BEFORE_MS > this.#now()) return this.#token;
    this.#asking ??= this.#renew().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #renew(): Promise<Token> {
    const { id, secret } = this.#options.credential;
    const { body, headers } = await cloudRequest({
      method: 'POST',
      url: `${this.authUrl}/auth/tokens`,
      body: {
        auth: { identity: { methods: ['application_credential'], application_credential: { id, secret } } },
      },
    });
    const token = (
      body as { token?: { expires_at?: string; project?: { id: string }; catalog?: Token['catalog'] } } | null
    )?.token;
    const subject = headers.get('x-subject-token');
    const expiresMs = Date.parse(token?.expires_at ?? '');
    if (!token || !subject || Number.isNaN(expiresMs)) {
      throw new SeamlessError(
        'CLOUD_REFUSED',
        `Expected a token of ${this.authUrl}, got another reply; is it Keystone’s v3?`,
      );
    }
    this.#token = {
      id: subject,
      expiresMs,
      projectId: token.project?.id ?? null,
      catalog: token.catalog ?? [],
    };
    return this.#token;
  }
}

function withToken(request: CloudRequest, token: string): CloudRequest {
  return { ...request, headers: { ...request.headers, 'x-auth-token': token } };
}
