// SPDX-License-Identifier: Apache-2.0
// The published library's mean field behind one C function; dense_crf.py fetches and compiles it. Empty without it.
#if __has_include("densecrf.h")
#include "densecrf.h"

extern "C" void dense_crf(int height, int width, int classes, const float* unary, const unsigned char* image,
                          const float* kernels, int iterations, int after, float* out) {
  const NormalizationType how = after ? NORMALIZE_AFTER : NORMALIZE_SYMMETRIC;
  const float w1 = kernels[0], alpha = kernels[1], beta = kernels[2], w2 = kernels[3], gamma = kernels[4];
  DenseCRF2D crf(width, height, classes);
  crf.setUnaryEnergy(MatrixXf(Eigen::Map<const MatrixXf>(unary, classes, height * width)));
  crf.addPairwiseGaussian(gamma, gamma, new PottsCompatibility(w2), DIAG_KERNEL, how);
  crf.addPairwiseBilateral(alpha, alpha, beta, beta, beta, image, new PottsCompatibility(w1), DIAG_KERNEL, how);
  Eigen::Map<MatrixXf>(out, classes, height * width) = crf.inference(iterations);
}
#endif
