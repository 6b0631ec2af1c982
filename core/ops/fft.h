// The discrete Fourier transform of any length in O(n log n).
#ifndef HALFTONE_CORE_OPS_FFT_H_
#define HALFTONE_CORE_OPS_FFT_H_

#include <complex>
#include <vector>

namespace halftone {

using Complex = std::complex<double>;

// X[k] = sum over n of x[n] exp(-2πi kn / N); +2πi for the inverse, which is not divided by N.
std::vector<Complex> Fft(std::vector<Complex> x, bool inverse);

}  // namespace halftone

#endif  // HALFTONE_CORE_OPS_FFT_H_
