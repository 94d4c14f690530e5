// Attention of tokens that see a common prefix and, after it, some tokens each: softmax over both.
// The products with the prefix are matrix products and are made elsewhere; what is left is here.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// eˣ to 2 in 10⁷ for x ≤ 0; 0 where x is below −87, where floats become denormal.
inline float exponential(float x) {
    const float within = x < -87.0f ? -87.0f : x;
    const float n = std::floor(within * 1.44269504f + 0.5f);
    const float r = (within - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits;
    std::memcpy(&bits, &p, sizeof bits);
    bits += static_cast<int32_t>(n) << 23;
    std::memcpy(&p, &bits, sizeof p);
    return x < -87.0f ? 0.0f : p;
}

inline float dot(const float* a, const float* b, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

inline float greatest(const float* x, int64_t n) {
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
    return most;
}

// c·tanh(x/c), by way of tanh|y| = (1 − e^−2|y|) / (1 + e^−2|y|).
inline void cap(float* x, int64_t n, float softcap) {
    if (!(softcap > 0)) return;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float e = exponential(-2.0f * std::fabs(x[i] / softcap));
        x[i] = std::copysign((1.0f - e) / (1.0f + e) * softcap, x[i]);
    }
}

}  // namespace

extern "C" {

struct Sizes {
    int64_t heads, kv_heads, tokens, before, width;
    int64_t seen;                     // columns of the table of seen tokens
    int64_t key_head, key_token;      // strides of own keys and values
    int64_t bias_heads, bias_tokens;  // of the bias: a divisor of the heads; 1 or all tokens
    float softcap, least;             // 0: none; weights up to it are 0
    int32_t threads;
};

}  // extern "C"

namespace {

inline void cap_and_bias(const Sizes* z, float* x, const float* bias, int64_t row) {
    cap(x, z->before, z->softcap);
    if (!bias) return;
    const int64_t of = row / z->tokens * z->bias_heads / z->heads;
    const int64_t at = z->bias_tokens > 1 ? row % z->tokens : 0;
    const float* b = bias + (of * z->bias_tokens + at) * z->before;
#pragma omp simd
    for (int64_t j = 0; j < z->before; j++) x[j] += b[j];
}

// Logits of a token against those it sees after the prefix; returns how many.
inline int64_t own_logits(const Sizes* z, const float* q, const float* keys, const int32_t* seen,
                          int64_t row, float* logits) {
    const float* k = keys + row / z->tokens / (z->heads / z->kv_heads) * z->key_head;
    const int32_t* place = seen + row % z->tokens * z->seen;
    int64_t count = 0;
    for (; count < z->seen && place[count] >= 0; count++)
        logits[count] = dot(q + row * z->width, k + place[count] * z->key_token, z->width);
    cap(logits, count, z->softcap);
    return count;
}

}  // namespace

extern "C" {

// before: (H, t, m) logits, replaced by weights. output: (H, t, d), from own values.
// seen: (t, s) numbers of the tokens that each one sees, ended by −1.
void attend(const Sizes* z, float* before, const float* bias, const float* q, const float* keys,
            const float* values, const int32_t* seen, float* output) {
    const int64_t m = z->before, d = z->width, rows = z->heads * z->tokens;
#pragma omp parallel num_threads(z->threads)
    {
        std::vector<float> own(z->seen + 1);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) {
            float* x = before + row * m;
            cap_and_bias(z, x, bias, row);
            const int64_t count = own_logits(z, q, keys, seen, row, own.data());
            const float most = std::fmax(greatest(x, m), greatest(own.data(), count));
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < m; j++) sum += x[j] = exponential(x[j] - most);
            for (int64_t l = 0; l < count; l++) sum += own[l] = exponential(own[l] - most);
            const float scale = 1 / sum, least = z->least;
#pragma omp simd
            for (int64_t j = 0; j < m; j++) {  // what is not a number stays so
                const float weight = x[j] * scale;
                x[j] = weight <= least ? 0.0f : weight;
            }
            const float* v = values + row / z->tokens / (z->heads / z->kv_heads) * z->key_head;
            const int32_t* place = seen + row % z->tokens * z->seen;
            float* out = output + row * d;
            std::memset(out, 0, d * sizeof *out);
            for (int64_t l = 0; l < count; l++) {
                const float weight = own[l] * scale;
                if (weight <= least) continue;
                const float* from = v + place[l] * z->key_token;
#pragma omp simd
                for (int64_t i = 0; i < d; i++) out[i] += weight * from[i];
            }
        }
    }
}

// before: (H, t, m) logits, replaced. whole, own: (H, t) ln Σ e^logit over both parts.
void log_masses(const Sizes* z, float* before, const float* bias, const float* q,
                const float* keys, const int32_t* seen, float* whole, float* own) {
    const int64_t m = z->before, rows = z->heads * z->tokens;
    const auto mass = [](const float* x, int64_t n) {
        const float most = greatest(x, n);
        if (most == -INFINITY) return most;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < n; j++) sum += exponential(x[j] - most);
        return most + std::log(sum);
    };
#pragma omp parallel num_threads(z->threads)
    {
        std::vector<float> logits(z->seen + 1);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < rows; row++) {
            cap_and_bias(z, before + row * m, bias, row);
            whole[row] = mass(before + row * m, m);
            own[row] = mass(logits.data(), own_logits(z, q, keys, seen, row, logits.data()));
        }
    }
}

}  // extern "C"
