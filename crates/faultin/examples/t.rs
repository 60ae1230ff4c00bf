use std::time::Instant;
unsafe extern "C" { fn memcpy(d:*mut u8,s:*const u8,n:usize)->*mut u8; }
fn main(){
    faultin::install().unwrap();
    let args: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let max = 256<<20;
    let src = vec![1u8; max+8192]; let mut dst = vec![2u8; max+8192];
    let a = |v:usize| (v+4095)&!4095;
    let s = a(src.as_ptr() as usize) as *const u8; let d = a(dst.as_mut_ptr() as usize) as *mut u8;
    let mut geo=0.0; let mut n=0;
    for &size in &args {
        let iters = (if size < 65536 {(400_000/(1+size/64)).max(2000)} else {(20<<20)/size}).clamp(1, 400000);
        let mut rs=vec![]; let mut av=vec![]; let mut bv=vec![];
        for r in 0..(if size>(1<<20) {15} else {41}) {
            let f = || { let t=Instant::now(); for _ in 0..iters { unsafe { std::hint::black_box(faultin::copy_in(std::hint::black_box(d), std::hint::black_box(s), std::hint::black_box(size)).is_ok()); } } t.elapsed().as_nanos() as f64/iters as f64};
            let g = || { let t=Instant::now(); for _ in 0..iters { unsafe { std::hint::black_box(memcpy(std::hint::black_box(d), std::hint::black_box(s), std::hint::black_box(size))); } } t.elapsed().as_nanos() as f64/iters as f64};
            let (x,y) = if r%2==0 { let x=f(); (x,g()) } else { let y=g(); (f(),y) };
            rs.push(x/y); av.push(x); bv.push(y);
        }
        for v in [&mut rs,&mut av,&mut bv] { v.sort_by(|a,b|a.partial_cmp(b).unwrap()); }
        let m=rs[rs.len()/2]; geo+=m.ln(); n+=1;
        println!("{size:>10} ours {:>12.2} memcpy {:>12.2} ratio {:.3} min {:.2}/{:.2}", av[av.len()/2], bv[bv.len()/2], m, av[0], bv[0]);
    }
    println!("geomean {:.3}", (geo/n as f64).exp());
}
