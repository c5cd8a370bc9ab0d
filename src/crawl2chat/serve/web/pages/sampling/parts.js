/** Words and numbers that the parts of the page share. */

/** @type {Record<string, string>} */
export const NAMES = {
  logit_bias: "logit bias", repetition_penalty: "repetition penalty", presence_and_frequency: "presence and frequency",
  temperature: "temperature", top_k: "top-k", top_p: "top-p", min_p: "min-p",
};

/** A log-probability's colour class, from 0 (sure) to 5. @param {number} logprob @returns {number} */
export function shade(logprob) {
  const limits = [0.5, 0.2, 0.05, 0.01, 0.001];
  const p = Math.exp(logprob);
  const found = limits.findIndex((limit) => p >= limit);
  return found < 0 ? limits.length : found;
}

/** @param {number} nats @returns {string} entropy in bits */
export function bits(nats) {
  return (nats / Math.LN2).toFixed(2);
}

/** @param {Record<string, any>} values @returns {string} the settings that are not the neutral ones, in words */
export function told(values) {
  const neutral = /** @type {Record<string, any>} */ ({
    temperature: 1, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, logit_bias: "",
  });
  const parts = Object.entries(values).filter(([name, value]) => value !== neutral[name])
    .map(([name, value]) => `${(NAMES[name] ?? name).replace("_", " ")} ${value}`);
  return parts.join(", ") || "no controls";
}
