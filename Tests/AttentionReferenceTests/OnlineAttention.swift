import AttentionReference
import Foundation

/// Attention written a second time, in another way, to hold the reference against.
///
/// One pass over the keys with a running maximum and a rescaled sum (Milakov and Gimelshein 2018,
/// arXiv:1805.02867) instead of two passes; the visible keys as sets made from ranges instead of
/// a condition for each key.
func onlineAttention(
  q: [Double], k: [Double], v: [Double], _ dimensions: AttentionDimensions,
  _ options: AttentionOptions
) -> (o: [Double], lse: [Double]) {
  let (B, S, T) = (dimensions.batch, dimensions.queryTokens, dimensions.keyTokens)
  let (H, G) = (dimensions.queryHeads, dimensions.keyHeads)
  let (D, E) = (dimensions.keyChannels, dimensions.valueChannels)
  var o: [Double] = []
  var lse: [Double] = []
  for b in 0..<B {
    for i in 0..<S {
      for h in 0..<H {
        var running = options.sinks?[h] ?? -Double.infinity
        var sum = options.sinks == nil ? 0.0 : 1.0
        var accumulator = [Double](repeating: 0, count: E)
        let g = h * G / H
        for j in visibleKeys(b: b, h: h, i: i, dimensions, options).sorted() {
          let query = q[((b * S + i) * H + h) * D..<((b * S + i) * H + h + 1) * D]
          let key = k[((b * T + j) * G + g) * D..<((b * T + j) * G + g + 1) * D]
          var score = zip(query, key).map { $0 * $1 }.reduce(0, +)
          score *= options.scale ?? pow(Double(D), -0.5)
          if options.softcap > 0 { score = tanh(score / options.softcap) * options.softcap }
          if let bias = options.bias {
            let (biasB, biasH) = (bias.batch == B ? b : 0, bias.heads == H ? h : 0)
            score += bias.values[biasB * bias.heads * S * T + biasH * S * T + i * T + j]
          }
          if let slopes = options.alibiSlopes {
            let offset = options.alignment == .topLeft ? 0 : (options.kvLengths?[b] ?? T) - S
            score -= slopes[h] * Double(i + offset - j).magnitude
          }
          if score == -.infinity { continue }

          let larger = max(running, score)
          let rescale = exp(running - larger)
          let weight = exp(score - larger)
          sum = sum * rescale + weight
          for e in 0..<E {
            accumulator[e] = accumulator[e] * rescale + weight * v[((b * T + j) * G + g) * E + e]
          }
          running = larger
        }
        o += accumulator.map { sum == 0 ? 0 : $0 / sum }
        lse.append(sum == 0 ? -.infinity : running + log(sum))
      }
    }
  }
  return (o, lse)
}

/// The keys that a query sees, from the definitions of the masks as sets.
private func visibleKeys(
  b: Int, h: Int, i: Int, _ dimensions: AttentionDimensions, _ options: AttentionOptions
) -> Set<Int> {
  let length = options.kvLengths?[b] ?? dimensions.keyTokens
  let position = options.alignment == .topLeft ? i : i + length - dimensions.queryTokens
  let everything = Set(0..<length)

  let from = options.windowLeft.map { position - $0 } ?? -1_000_000
  let to = options.windowRight.map { position + $0 } ?? 1_000_000
  let window = everything.filter { (from...to).contains($0) }
  let sinks = everything.filter { $0 < options.sinkTokens }
  let past = options.causal ? everything.filter { $0 <= position } : everything
  var visible = window.union(sinks).intersection(past)
  if let mask = options.mask {
    let (S, T) = (dimensions.queryTokens, dimensions.keyTokens)
    let (maskB, maskH) = (mask.batch == 1 ? 0 : b, mask.heads == 1 ? 0 : h)
    visible = visible.filter {
      mask.values[maskB * mask.heads * S * T + maskH * S * T + i * T + $0] != 0
    }
  }
  return visible
}
