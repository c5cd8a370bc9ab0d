/** Reads the bodies that `tensors` in `serve/http.py` writes. */

const TYPES = {
  uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, int32: Int32Array,
  float32: Float32Array, float64: Float64Array,
};

/**
 * An array of numbers, row by row.
 * @typedef {{shape: number[], data: Uint8Array | Int8Array | Uint16Array | Int16Array | Uint32Array | Int32Array |
 *   Float32Array | Float64Array}} Tensor
 */

/**
 * A body's header, and its arrays by name; they are views of the body, not copies.
 * @param {ArrayBuffer} body
 * @returns {{header: any, arrays: Record<string, Tensor>}}
 */
export function decodeTensors(body) {
  const length = new DataView(body).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(body, 4, length)));
  /** @type {Record<string, Tensor>} */
  const arrays = {};
  for (const { name, dtype, shape, offset } of header.arrays) {
    const size = shape.reduce((/** @type {number} */ product, /** @type {number} */ n) => product * n, 1);
    const type = TYPES[/** @type {keyof typeof TYPES} */ (dtype)];
    arrays[name] = { shape, data: new type(body, 4 + length + offset, size) };
  }
  return { header, arrays };
}
