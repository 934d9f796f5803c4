/** Cuts a byte stream of JSON objects, which OVSDB sends without anything between them, into their texts. */
import { StringDecoder } from 'node:string_decoder';

export class JsonSplitter {
  readonly #decoder = new StringDecoder('utf8');
  #text = '';
  /** How far `#text` has been looked at, and what was found up to there. */
  #at = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** The texts of the objects that are complete with `chunk`. */
  push(chunk: Buffer): string[] {
    this.#text += this.#decoder.write(chunk);
    const complete: string[] = [];
    let start = 0;
    for (; this.#at < this.#text.length; this.#at++) {
      if (!this.#endsObject(this.#text[this.#at] as string)) continue;
      complete.push(this.#text.slice(start, this.#at + 1));
      start = this.#at + 1;
    }
    this.#text = this.#text.slice(start);
    this.#at -= start;
    return complete;
  }

  #endsObject(character: string): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') this.#inString = false;
      return false;
    }
    if (character === '"') this.#inString = true;
    else if (character === '{' || character === '[') this.#depth++;
    else if (character === '}' || character === ']') return --this.#depth === 0;
    return false;
  }
}
